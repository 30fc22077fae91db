package ports

import (
	"fmt"
	"net"
	"sync"
	"testing"
)

// TestFree: servers that are started beside each other don't get each other's port, not even while another one is looked for.
func TestFree(t *testing.T) {
	const servers, each = 20, 10
	var mu sync.Mutex
	seen := map[int]bool{}
	var starting sync.WaitGroup
	for range servers {
		starting.Go(func() {
			for range each {
				free, err := Free(2)
				if err != nil {
					t.Error(err)
					return
				}
				for _, port := range free {
					mu.Lock()
					if seen[port] {
						t.Errorf("port %d was returned twice", port)
					}
					seen[port] = true
					mu.Unlock()
					listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
					if err != nil {
						t.Error(err)
						continue
					}
					// It goes away and comes back, as a server that a test stops for a while.
					listener.Close()
					if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
						t.Error(err)
						continue
					}
					listener.Close()
				}
			}
		})
	}
	starting.Wait()
}
