// Tools has the model call a function of ours, with arguments that the server
// holds to a schema, and answer with what it returned.
//
//	go run ./examples/tools
//
// Without DEEPSEEK_API_KEY it talks to a fake DeepSeek with faults.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/examples/internal/fake"
)

func main() {
	api := fake.Unless(os.Getenv, deepseektest.WithAnswer(fakeAnswer))
	defer api.Close()
	if err := run(context.Background(), os.Stdout, api.Options...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// tideSchema describes tideArguments. A strict schema lists every property as
// required and allows no others. As raw JSON its bytes never change, which the
// context cache wants.
const tideSchema = `{
	"type": "object",
	"properties": {
		"place": {"type": "string", "description": "a harbour, such as Dover"},
		"day": {"type": "string", "enum": ["today", "tomorrow"]}
	},
	"required": ["place", "day"],
	"additionalProperties": false
}`

type tideArguments struct {
	Place string `json:"place"`
	Day   string `json:"day"`
}

// tide is the function. A real one would look it up.
func tide(a tideArguments) string {
	return fmt.Sprintf("High water at %s %s: 04:12 and 16:38, 6.4 m.", a.Place, a.Day)
}

func run(ctx context.Context, out io.Writer, opts ...deepseek.Option) error {
	client, err := deepseek.New(opts...)
	if err != nil {
		return err
	}
	defer client.Transport().CloseIdleConnections()

	tool := deepseek.FunctionTool("tide", "The times of high water.", json.RawMessage(tideSchema))
	tool.Function.Strict = true // the client then uses DeepSeek's beta address
	messages := []deepseek.Message{deepseek.User("When is high water at Dover tomorrow?")}

	for range 5 { // a model may ask again and again
		answer, err := client.Chat(ctx, &deepseek.ChatRequest{Messages: messages, Tools: []deepseek.Tool{tool}})
		if err != nil {
			return err
		}
		// Whole: with tools, DeepSeek wants the reasoning back as well.
		messages = append(messages, answer.Message())
		if len(answer.ToolCalls()) == 0 {
			fmt.Fprintln(out, "answer:", answer.Text())
			return nil
		}
		for _, call := range answer.ToolCalls() {
			result := perform(call)
			fmt.Fprintf(out, "call:   %s %s\nresult: %s\n", call.Function.Name, call.Function.Arguments, result)
			messages = append(messages, deepseek.ToolResult(call.ID, result))
		}
	}
	return errors.New("the model asks for tools without end")
}

// perform makes a call. What is wrong with it the model is told, and may mend.
func perform(call deepseek.ToolCall) string {
	if call.Function.Name != "tide" {
		return "there is no function " + call.Function.Name
	}
	var a tideArguments
	if err := call.DecodeArguments(&a); err != nil {
		return err.Error()
	}
	return tide(a)
}

// fakeAnswer is what the fake says: first a call, then its result.
func fakeAnswer(r *deepseektest.Request) deepseektest.Answer {
	if last := r.Messages[len(r.Messages)-1]; last.Role == "tool" {
		return deepseektest.Answer{Reasoning: "That is the result.", Content: last.Content}
	}
	return deepseektest.Answer{
		Reasoning: "The tide function knows.",
		ToolCalls: []deepseektest.ToolCall{{Name: "tide", Arguments: `{"place": "Dover", "day": "tomorrow"}`}},
	}
}
