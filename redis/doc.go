// Package redis keeps in a Redis server what several replicas of a program share:
//
//   - [Connection.State] is the [deepseek.SharedState] of [deepseek.NewReplica]:
//     learned limits, permits, and what accounts and keys are put aside for.
//   - [Connection.Store] is the [deepseek.Store] of the response cache.
//   - [Connection.Counters] counts what the clients of several gateways use.
//
// The README tells what is guaranteed, and what happens when Redis is slow, lost,
// or empty. Redis 6 or later is needed; times are those of its own clock.
//
// Whoever can write to the server decides what callers of a cache are answered,
// and can have accounts put aside for minutes; nobody finds a key of an account
// or client there, or a prompt, but answers are there in plain.
package redis
