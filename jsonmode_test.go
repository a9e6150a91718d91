package deepseek_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

type place struct{ City string }

func TestBlankJSONIsAskedForOnceMore(t *testing.T) {
	c, s := newClient(t)
	req := ask(deepseek.User(`Where? Answer in JSON like {"city":"x"}`))
	s.Enqueue(deepseektest.BlankJSON(), deepseektest.Say(`{"city":"Oslo"}`))
	v, resp, err := deepseek.ChatJSON[place](t.Context(), c, req)
	require.NoError(t, err)
	require.Equal(t, place{"Oslo"}, v)
	require.NotNil(t, resp)
	require.Nil(t, req.ResponseFormat, "the caller's request is not changed")
	require.Len(t, s.Requests(), 2)

	s.Enqueue(deepseektest.Repeat(2, deepseektest.BlankJSON())...)
	_, resp, err = deepseek.ChatJSON[place](t.Context(), c, req)
	var unusable *deepseek.AnswerError
	require.ErrorAs(t, err, &unusable)
	require.Same(t, resp, unusable.Response)
	require.Len(t, s.Requests(), 4)
}

func TestDecodeJSON(t *testing.T) {
	answer := func(text string, reason deepseek.FinishReason) *deepseek.ChatResponse {
		return &deepseek.ChatResponse{Choices: []deepseek.Choice{{Message: deepseek.Assistant(text), FinishReason: reason}}}
	}
	for _, text := range []string{`{"city":"Oslo"}`, " {\"city\":\"Oslo\"}\n", "```json\n{\"city\":\"Oslo\"}\n```", "```{\"city\":\"Oslo\"}```", "```\n{\"city\":\"Oslo\"}\n```\n"} {
		v, err := deepseek.DecodeJSON[place](answer(text, deepseek.FinishStop))
		require.NoError(t, err, text)
		require.Equal(t, place{"Oslo"}, v)
	}
	list, err := deepseek.DecodeJSON[[]int](answer("```json\n[1,2]\n```", deepseek.FinishStop))
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, list)

	var unusable *deepseek.AnswerError
	for _, text := range []string{"", "   \n", "``````", "no JSON", `{"city":1}`, `{"city":"Os`} {
		v, err := deepseek.DecodeJSON[place](answer(text, deepseek.FinishStop))
		require.ErrorAs(t, err, &unusable, text)
		require.Zero(t, v)
	}
	cut := answer(`{"city":"Oslo"}`, deepseek.FinishLength)
	_, err = deepseek.DecodeJSON[place](cut)
	var truncated *deepseek.TruncatedError
	require.ErrorAs(t, err, &truncated)
	require.Same(t, cut, truncated.Response)
	_, err = deepseek.DecodeJSON[place](nil)
	require.ErrorAs(t, err, &unusable)
}
