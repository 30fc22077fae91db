package apimodel

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// Fault is what may go wrong with a request.
type Fault string

// The faults of requests. Of those that don't say so, the server has done nothing.
const (
	None Fault = ""
	// Refused: no connection could be made.
	Refused Fault = "connection refused"
	// LostRequest: the connection broke before the server had read the request.
	LostRequest Fault = "request lost"
	// LostAnswer: the connection broke after the server has acted.
	LostAnswer Fault = "answer lost"
	// LateRequest: the connection broke, and the server acts some time later.
	LateRequest Fault = "request late"
	// CutAnswer: the server has acted, and the connection broke within the answer.
	CutAnswer Fault = "answer cut"
	// Hang and HangActed: no answer, until the client's transport finds that the
	// connection is dead. By then the server may have acted.
	Hang      Fault = "hang"
	HangActed Fault = "hang after acting"
	// TooMany is a 429 with Retry-After.
	TooMany Fault = "429"
	// Unavailable is a 503, by the server or by what is before it, with or without
	// Retry-After.
	Unavailable      Fault = "503"
	UnavailableActed Fault = "503 after acting"
	// BadGateway is a 502 in HTML, by what is before the server.
	BadGateway      Fault = "502"
	BadGatewayActed Fault = "502 after acting"
	// GatewayTimeout is the API server's 504 after its own time limit.
	GatewayTimeout      Fault = "504"
	GatewayTimeoutActed Fault = "504 after acting"
	// ServerTimeout is the API server's 500 with Retry-After where its storage is
	// unreachable.
	ServerTimeout      Fault = "500 ServerTimeout"
	ServerTimeoutActed Fault = "500 ServerTimeout after acting"
	// Internal is a 500 of no particular reason: a webhook that can't be reached,
	// a change of etcd's leader.
	Internal      Fault = "500 InternalError"
	InternalActed Fault = "500 InternalError after acting"
)

// The faults of watches that have begun.
const (
	// WatchClosed: the server ends it in good order.
	WatchClosed Fault = "watch closed"
	// WatchReset: the connection breaks between two events.
	WatchReset Fault = "watch reset"
	// WatchCut: the connection breaks within an event.
	WatchCut Fault = "watch cut"
	// WatchPaused: nothing comes for a while, and then all that was missed.
	WatchPaused Fault = "watch paused"
	// WatchDead: nothing comes any more until the client's transport finds that
	// the connection is dead.
	WatchDead Fault = "watch dead"
	// WatchSilent: nothing comes any more, and the connection stays as it is.
	WatchSilent Fault = "watch silent"
)

// RequestFaults and WatchFaults are all faults there are.
var (
	RequestFaults = []Fault{
		Refused, LostRequest, LostAnswer, LateRequest, CutAnswer, Hang, HangActed, TooMany,
		Unavailable, UnavailableActed, BadGateway, BadGatewayActed, GatewayTimeout, GatewayTimeoutActed,
		ServerTimeout, ServerTimeoutActed, Internal, InternalActed,
	}
	WatchFaults = []Fault{WatchClosed, WatchReset, WatchCut, WatchPaused, WatchDead, WatchSilent}
)

// Faults says how often what goes wrong.
type Faults struct {
	// Rate is the part of requests that meet a fault, and WatchRate that of
	// watches that do once they have begun.
	Rate, WatchRate float64
	// Kinds are the faults that are met.
	Kinds []Fault
	// End is how long after the model's start all faults are over; 0: they never
	// are.
	End time.Duration
	// Outages are when the server is away.
	Outages []Outage
	// CompactEvery is how often the history is forgotten, about; 0: never.
	CompactEvery time.Duration
}

// Outage is a time, since the model's start, during which the server is away.
type Outage struct{ From, To time.Duration }

func (f *Faults) over(now time.Duration) bool { return f.End > 0 && now >= f.End }

func (f *Faults) away(now time.Duration) bool {
	for _, outage := range f.Outages {
		if now >= outage.From && now < outage.To {
			return true
		}
	}
	return false
}

// draw returns the fault that a request or a watch meets.
func (f *Faults) draw(r *rand.Rand, now time.Duration, rate float64, all []Fault) Fault {
	if chance := r.Float64(); chance >= rate || f.over(now) {
		return None
	}
	var some []Fault
	for _, fault := range all {
		for _, kind := range f.Kinds {
			if fault == kind {
				some = append(some, fault)
			}
		}
	}
	if len(some) == 0 {
		return None
	}
	return some[r.IntN(len(some))]
}

// acts reports whether the server does what it was asked for before the fault.
func (f Fault) acts() bool {
	switch f {
	case None, LostAnswer, CutAnswer, HangActed, UnavailableActed, BadGatewayActed, GatewayTimeoutActed, ServerTimeoutActed, InternalActed:
		return true
	}
	return false
}

// deadAfter is how long client-go's transport takes to find out that a connection is
// dead: it asks after 30 seconds of silence and waits for 15
// (k8s.io/apimachinery/pkg/util/net, readIdleTimeoutSeconds and pingTimeoutSeconds).
const deadAfter = 45 * time.Second

var (
	errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	errReset   = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	errDead    = errors.New("http2: client connection lost")
	errGoAway  = http2.GoAwayError{LastStreamID: 1, ErrCode: http2.ErrCodeNo}
	errStream  = http2.StreamError{StreamID: 1, Code: http2.ErrCodeInternal, Cause: errors.New("received from peer")}
)

// lost are the errors by which a client learns that a connection broke.
var lost = []error{errReset, io.EOF, io.ErrUnexpectedEOF, errDead, errGoAway}

// cut are those by which it learns that within an answer.
var cut = []error{errReset, io.ErrUnexpectedEOF, errDead, errStream}

func pick[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }

// status returns the answer that is the fault, if it's one.
func (f Fault) status(r *rand.Rand) (answer, bool) {
	seconds := 0
	if r.IntN(2) == 0 {
		seconds = 1 + r.IntN(5)
	}
	switch f {
	case TooMany:
		return failure(http.StatusTooManyRequests, "TooManyRequests", 1+r.IntN(8)), true
	case Unavailable, UnavailableActed:
		return failure(http.StatusServiceUnavailable, "ServiceUnavailable", seconds), true
	case GatewayTimeout, GatewayTimeoutActed:
		return failure(http.StatusGatewayTimeout, "Timeout", 0), true
	case ServerTimeout, ServerTimeoutActed:
		return failure(http.StatusInternalServerError, "ServerTimeout", 2), true
	case Internal, InternalActed:
		return failure(http.StatusInternalServerError, "InternalError", 0), true
	case BadGateway, BadGatewayActed:
		return answer{code: http.StatusBadGateway, body: []byte("<html><body>502 Bad Gateway</body></html>"), html: true}, true
	}
	return answer{}, false
}
