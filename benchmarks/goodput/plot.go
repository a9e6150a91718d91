package main

import (
	"fmt"
	"strings"
	"time"
)

// chart is a line chart over the time of a run, as SVG.
type chart struct {
	title string
	unit  string // of the values
	lasts time.Duration
	lines []line
	bands []span // shaded: something is wrong then
}

type line struct {
	name   string
	values []float64 // evenly spread over the run
	colour string
	dashed bool
}

// Of a chart, in pixels.
const (
	plotWidth, plotHeight = 640, 220
	plotLeft, plotTop     = 44, 28
	plotLegend            = 18 // a line of it
)

var colours = []string{"#0b5fff", "#8a8a8a", "#c77700", "#1d8a4a", "#7fb800", "#b3247a"}

const bestColour = "#000000"

// svg draws the chart.
func (c *chart) svg() string {
	top := 0.0
	for _, l := range c.lines {
		for _, v := range l.values {
			top = max(top, v)
		}
	}
	tick := niceStep(top / 4)
	top = max(tick, tick*float64(int(top/tick+0.999)))
	x := func(share float64) float64 { return plotLeft + share*plotWidth }
	y := func(v float64) float64 { return plotTop + plotHeight*(1-v/top) }

	perRow := 3
	height := plotTop + plotHeight + 30 + plotLegend*((len(c.lines)+perRow-1)/perRow)
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`, plotLeft+plotWidth+12, height)
	p(`<rect width="100%%" height="100%%" fill="white"/>`)
	p(`<text x="%d" y="16" font-size="13">%s</text>`, plotLeft, escape(c.title))
	for _, s := range c.bands {
		from, to := share(s.from, c.lasts), share(s.to, c.lasts)
		p(`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#ffe9e0"/>`, x(from), plotTop, x(to)-x(from), plotHeight)
	}
	for v := 0.0; v <= top+tick/2; v += tick {
		p(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`, plotLeft, plotLeft+plotWidth, y(v), y(v))
		p(`<text x="%d" y="%.1f" text-anchor="end">%g</text>`, plotLeft-4, y(v)+4, v)
	}
	for i := 0; i <= 5; i++ {
		at := c.lasts * time.Duration(i) / 5
		p(`<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, x(float64(i)/5), plotTop+plotHeight+14, escape(at.Round(time.Second).String()))
	}
	p(`<text x="%d" y="16" text-anchor="end" fill="#666">%s</text>`, plotLeft+plotWidth, escape(c.unit))
	for i, l := range c.lines {
		dash := ""
		if l.dashed {
			dash = ` stroke-dasharray="5 3"`
		}
		points := make([]string, len(l.values))
		for j, v := range l.values {
			points[j] = fmt.Sprintf("%.1f,%.1f", x((float64(j)+0.5)/float64(len(l.values))), y(v))
		}
		p(`<polyline fill="none" stroke="%s" stroke-width="1.5"%s points="%s"/>`, l.colour, dash, strings.Join(points, " "))
		lx, ly := plotLeft+i%perRow*(plotWidth/perRow), plotTop+plotHeight+30+i/perRow*plotLegend
		p(`<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="%s" stroke-width="2"%s/>`, lx, lx+18, ly, ly, l.colour, dash)
		p(`<text x="%d" y="%d">%s</text>`, lx+23, ly+4, escape(l.name))
	}
	p(`</svg>`)
	return b.String()
}

func share(t, of time.Duration) float64 { return min(1, float64(t)/float64(of)) }

func escape(s string) string { return strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(s) }

// niceStep is the least 1, 2 or 5 times a power of ten that is not below v.
func niceStep(v float64) float64 {
	for step := 0.1; ; step *= 10 {
		for _, m := range []float64{1, 2, 5} {
			if step*m >= v {
				return step * m
			}
		}
	}
}

// plotPoints is into how many points a run is gathered.
const plotPoints = 150

// gather makes means of what was counted each second.
func gather(perSecond []float64) []float64 {
	n := min(plotPoints, len(perSecond))
	points := make([]float64, n)
	for i := range points {
		part := perSecond[i*len(perSecond)/n : (i+1)*len(perSecond)/n]
		for _, v := range part {
			points[i] += v / float64(len(part))
		}
	}
	return points
}

// troubles are the times in which something of the script is wrong.
func (s *scenario) troubles() (spans []span) {
	for _, o := range s.outages {
		spans = append(spans, o.span)
	}
	for _, a := range s.accounts {
		for _, p := range []span{a.broke, a.revoked, a.slow} {
			if p.to > 0 {
				spans = append(spans, p)
			}
		}
	}
	return spans
}

// goodputChart draws the valid answers of each client over time.
func (res *result) goodputChart() *chart {
	c := &chart{title: res.s.name + ": valid answers", unit: "a second", lasts: res.s.lasts, bands: res.s.troubles()}
	c.lines = append(c.lines, line{"best possible", smooth(res.best.perSecond), bestColour, true})
	for i, f := range res.figures {
		c.lines = append(c.lines, line{f.client, smooth(f.perSecond), colours[i%len(colours)], false})
	}
	return c
}

// inFlightChart draws what a client has in flight at each account against the
// account's limit.
func (res *result) inFlightChart(f *figures) *chart {
	c := &chart{title: res.s.name + ": " + f.client + " in flight, and the limits", unit: "requests", lasts: res.s.lasts, bands: res.s.troubles()}
	for i, a := range res.s.accounts {
		var used, limit []float64
		for _, m := range f.run.perSecond {
			used, limit = append(used, float64(m.inFlight[i])), append(limit, float64(m.limit[i]))
		}
		colour := colours[i%len(colours)]
		c.lines = append(c.lines, line{"account " + a.name, gather(used), colour, false}, line{"limit of " + a.name, gather(limit), colour, true})
	}
	return c
}

// smooth makes rates of answers a second, each over five.
func smooth(perSecond []float64) []float64 {
	rates := make([]float64, len(perSecond)-1) // the last second is not whole
	for i := range rates {
		from, to := max(0, i-2), min(len(rates), i+3)
		for _, n := range perSecond[from:to] {
			rates[i] += n / float64(to-from)
		}
	}
	return gather(rates)
}
