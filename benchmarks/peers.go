package main

import (
	"net/http"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	goopenai "github.com/sashabaranov/go-openai"

	"github.com/seawall-go/deepseek"
)

const apiKey = "sk-benchmark"

// seawall is the default chain over base.
func seawall(base http.RoundTripper, url string) (*http.Client, error) {
	return deepseek.NewHTTPClient(deepseek.WithAPIKeys(apiKey), deepseek.WithBaseURL(url), deepseek.WithTransport(base))
}

// failsafe composes of failsafe-go what comes closest to Seawall's default
// chain, in the order that its documentation recommends.
func failsafe(base http.RoundTripper) *http.Client {
	retry := failsafehttp.NewRetryPolicyBuilder().
		WithMaxRetries(9).
		WithBackoff(500*time.Millisecond, 8*time.Second).
		WithJitterFactor(0.5).
		Build()
	breaker := circuitbreaker.NewBuilder[*http.Response]().
		HandleIf(func(resp *http.Response, err error) bool { return err != nil || resp.StatusCode >= 500 }).
		WithFailureRateThreshold(0.5, 20, 30*time.Second).
		WithDelay(5 * time.Second).
		Build()
	room := bulkhead.NewBuilder[*http.Response](2500).WithMaxWaitTime(10 * time.Minute).Build()
	return &http.Client{Transport: failsafehttp.NewRoundTripper(base, retry, breaker, room)}
}

// retryable is go-retryablehttp as an *http.Client.
func retryable(base http.RoundTripper) *http.Client {
	c := retryablehttp.NewClient()
	c.HTTPClient = &http.Client{Transport: base}
	c.Logger = nil
	c.RetryMax = 9
	c.RetryWaitMin, c.RetryWaitMax = 500*time.Millisecond, 8*time.Second
	return c.StandardClient()
}

// newOpenAI is openai-go with its default settings.
func newOpenAI(client *http.Client, url string) openai.Client {
	return openai.NewClient(option.WithAPIKey(apiKey), option.WithBaseURL(url+"/"), option.WithHTTPClient(client))
}

// newGoOpenAI is go-openai with its default settings.
func newGoOpenAI(client *http.Client, url string) *goopenai.Client {
	c := goopenai.DefaultConfig(apiKey)
	c.BaseURL = url
	c.HTTPClient = client
	return goopenai.NewClientWithConfig(c)
}
