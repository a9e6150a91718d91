package deepseektest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// A program's calls against a server that fails first. With NewMemoryServer in a
// testing/synctest bubble, waits of any length take no time; elsewhere they had better be
// short, as here.
func Example() {
	s := deepseektest.NewServer()
	defer s.Close()
	s.Enqueue(deepseektest.ServiceUnavailable(), deepseektest.Say("It holds."))

	client, err := deepseek.New(deepseek.WithBaseURL(s.URL), deepseek.WithAPIKeys("sk-test"),
		deepseek.WithRetry(deepseek.Retry{MaxInterval: time.Millisecond}))
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := client.Chat(context.Background(), &deepseek.ChatRequest{
		Messages: []deepseek.Message{deepseek.User("How is the wall?")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.Text(), len(answer.Attempts), "attempts")
	for _, r := range s.Requests() {
		fmt.Println(r.Status, r.LastUser())
	}
	// Output:
	// It holds. 2 attempts
	// 503 How is the wall?
	// 200 How is the wall?
}

func ask(s *deepseektest.Server, body string) (int, string) {
	r, err := http.NewRequest(http.MethodPost, s.URL+"/chat/completions", strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	r.Header.Set("Authorization", "Bearer sk-test")
	client := &http.Client{Transport: s.Transport()}
	resp, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err.Error()
	}
	return resp.StatusCode, string(text)
}

func ExampleServer_Enqueue() {
	s := deepseektest.NewServer()
	defer s.Close()
	s.Enqueue(
		deepseektest.RateLimited(20),
		deepseektest.DropAfter(3),
		deepseektest.Say("It holds."),
	)

	const body = `{"model":"deepseek-flash","messages":[{"role":"user","content":"How is the wall?"}]}`
	for range 3 {
		status, text := ask(s, body)
		switch {
		case strings.Contains(text, "concurrency limit of 20"):
			text = "over the limit"
		case strings.Contains(text, "It holds."):
			text = "It holds."
		}
		fmt.Println(status, text)
	}
	// Output:
	// 429 over the limit
	// 200 unexpected EOF
	// 200 It holds.
}

func ExampleServer_Requests() {
	s := deepseektest.NewMemoryServer(deepseektest.WithAccount(deepseektest.Account{
		Name: "team",
		Keys: []string{"sk-test"},
	}))
	defer s.Close()
	ask(s, `{"model":"deepseek-chat","messages":[]}`)
	ask(s, `{"model":"deepseek-v4-flash","messages":[{"role":"user","content":"Hello"}],"max_tokens":7}`)

	for _, r := range s.Requests() {
		fmt.Println(r.Status, r.Account, r.Model, r.Usage.Completion)
	}
	// Output:
	// 400 team deepseek-chat 0
	// 200 team deepseek-flash 7
}
