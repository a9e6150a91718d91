package otel

import "strings"

// operation is what a call asks for, by the names of the conventions where they
// have one.
type operation string

const (
	chat           operation = "chat"
	textCompletion operation = "text_completion"
	listModels     operation = "list_models"
	userBalance    operation = "user_balance"
	files          operation = "files"
	unknown        operation = other
)

// operationOf is what a request to path asks for.
func operationOf(path string) operation {
	path = strings.TrimSuffix(path, "/")
	switch {
	case strings.HasSuffix(path, "/chat/completions"), strings.HasSuffix(path, "/responses"), strings.HasSuffix(path, "/messages"):
		return chat
	case strings.HasSuffix(path, "/completions"):
		return textCompletion
	case strings.HasSuffix(path, "/models"), strings.Contains(path, "/models/"):
		return listModels
	case strings.HasSuffix(path, "/user/balance"):
		return userBalance
	case strings.HasSuffix(path, "/files"), strings.Contains(path, "/files/"):
		return files
	}
	return unknown
}

// generates reports whether a model writes the answer.
func (o operation) generates() bool { return o == chat || o == textCompletion }
