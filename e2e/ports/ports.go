// Package ports finds ports for servers that are told theirs, or that come back to theirs after having been away.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
)

// Servers get ports below those that systems give to clients (from 32768 on Linux, from 49152 elsewhere), so that no
// connection takes a port before its server does, or while the server is away.
const lowest, highest = 20000, 32000

// given are the ports that this process has been told of. A server may not listen on its port yet, or be away from it.
var (
	mu    sync.Mutex
	given = map[int]bool{}
)

// Free returns n ports on 127.0.0.1 that nobody listens on and that it has not returned before. It is safe for
// concurrent use.
func Free(n int) ([]int, error) {
	mu.Lock()
	defer mu.Unlock()
	var found []int
	for range 100 * n {
		if len(found) == n {
			break
		}
		port := lowest + rand.IntN(highest-lowest)
		if given[port] {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := listener.Close(); err != nil {
			return nil, err
		}
		given[port] = true
		found = append(found, port)
	}
	if len(found) < n {
		return nil, fmt.Errorf("%d of %d ports are free, of those from %d to %d that were tried", len(found), n, lowest, highest)
	}
	return found, nil
}
