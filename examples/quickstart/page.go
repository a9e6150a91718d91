package main

import (
	"fmt"
	"io"
)

// page is where the text goes, in colour if it is a terminal.
type page struct {
	w     io.Writer
	color bool
}

func (p *page) print(format string, args ...any) { fmt.Fprintf(p.w, format, args...) }

func (p *page) title(text string) { p.print("\n%s\n\n", p.paint("1", text)) }

func (p *page) paint(code, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *page) red(text string) string   { return p.paint("31", text) }
func (p *page) green(text string) string { return p.paint("32", text) }
func (p *page) dim(text string) string   { return p.paint("2", text) }

// wrap prints a piece of running text, with line breaks in place of blanks past
// column 66. It returns the column it is at.
func (p *page) wrap(text string, column int) int {
	for _, r := range text {
		if r == ' ' && column > 66 {
			p.print("\n  ")
			column = 0
			continue
		}
		p.print("%c", r)
		column++
	}
	return column
}
