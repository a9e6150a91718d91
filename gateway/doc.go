// Package gateway serves DeepSeek's API to programs that are not written in Go,
// or not to be trusted with the keys: an [http.Handler] over the transport of
// package deepseek.
//
// Requests and answers pass byte for byte, for all of the API's paths and
// whatever is in them; each piece of a stream is passed on as it comes. What the
// gateway adds is at the edges:
//
//   - A request is read whole and looked at before anything is sent. What is not
//     DeepSeek's, too large, or no JSON is refused in the API's own shape.
//   - The keys are the transport's. Those of clients, their cookies and addresses
//     are not passed on.
//   - While a call waits, its client's connection is kept alive (see [KeepAlive]).
//   - A stream that cannot be completed ends with an error event in the shape of
//     its path, and with a broken connection: never like a whole one.
//   - A client that goes away frees its place at once.
//
// What happens is told to [Settings].OnEnd and to the transport's observers; package
// statuspage makes a page of it.
package gateway
