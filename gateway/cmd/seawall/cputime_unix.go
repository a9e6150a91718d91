//go:build unix

package main

import (
	"syscall"
	"time"
)

// cpuTime is what the program has used of all processors; false if that is not
// known here.
func cpuTime() (time.Duration, bool) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}
