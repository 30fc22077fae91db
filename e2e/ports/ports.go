// Package ports finds ports for servers that are told theirs, or that come back to theirs after having been away.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
)

// Servers get ports below those that systems give to clients (from 32768 on Linux, from 49152 elsewhere), so that no
// connection takes a port before its server does, or while the server is away.
const lowest, highest = 20000, 32000

// Free returns n different ports on 127.0.0.1 that nobody listens on.
func Free(n int) ([]int, error) {
	var found []int
	for range 100 * n {
		if len(found) == n {
			break
		}
		port := lowest + rand.IntN(highest-lowest)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer listener.Close() // held until all are found, so that they differ
		found = append(found, port)
	}
	if len(found) < n {
		return nil, fmt.Errorf("%d of %d ports are free, of those from %d to %d that were tried", len(found), n, lowest, highest)
	}
	return found, nil
}
