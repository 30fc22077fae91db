package cmd

import (
	"errors"
	"os"
	"syscall"
)

// interruptedError is the error of an operation that was asked to stop.
type interruptedError struct {
	err error
	// code is the exit code that stands for what asked.
	code int
	// completed says that the operation was done before it could stop.
	completed bool
}

func (e *interruptedError) Error() string { return e.err.Error() }
func (e *interruptedError) Unwrap() error { return e.err }

// ExitCode returns the exit code for an error of [Run]: 0 for nil, 128 and the
// signal's number for an operation that a signal stopped, else 1.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if i := interruption(err); i != nil {
		return i.code
	}
	return 1
}

// interruption returns how the operation was asked to stop, nil if it wasn't.
func interruption(err error) *interruptedError {
	var found *interruptedError
	errors.As(err, &found)
	return found
}

// completed reports whether the operation did its work in spite of the error.
func completed(err error) bool {
	i := interruption(err)
	return err == nil || i != nil && i.completed
}

// interrupted reports whether the operation was asked to stop.
func interrupted(err error) bool { return interruption(err) != nil }

// signalCode is the exit code of a program that a signal ended, as shells count.
func signalCode(sig os.Signal) int {
	if s, ok := sig.(syscall.Signal); ok {
		return 128 + int(s)
	}
	return 1
}
