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
	var interrupted *interruptedError
	if errors.As(err, &interrupted) {
		return interrupted.code
	}
	return 1
}

// completed reports whether the operation did its work in spite of the error.
func completed(err error) bool {
	var interrupted *interruptedError
	return err == nil || errors.As(err, &interrupted) && interrupted.completed
}

// interrupted reports whether the operation was asked to stop.
func interrupted(err error) bool {
	var interrupted *interruptedError
	return errors.As(err, &interrupted)
}

// signalCode is the exit code of a program that a signal ended, as shells count.
func signalCode(sig os.Signal) int {
	if s, ok := sig.(syscall.Signal); ok {
		return 128 + int(s)
	}
	return 1
}
