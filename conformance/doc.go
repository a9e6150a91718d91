// Package conformance holds what every way into the transport owes its caller,
// as tests. It knows nothing of how the transport works: it sends calls through
// a [Door] to a fake server that misbehaves as it is told to, and judges by what
// the caller gets, what the server saw, and what the transport says of itself.
//
//	func TestContract(t *testing.T) {
//		conformance.Run(t, door)
//	}
//
//	func door(t *testing.T, srv *deepseektest.Server,
//		opts ...deepseek.Option) conformance.Door {
//		client, err := deepseek.NewHTTPClient(opts...)
//		...
//		return conformance.HTTP(client, srv.URL)
//	}
//
// Each test runs in a testing/synctest bubble of its own, so a queue of ten
// minutes costs nothing.
package conformance
