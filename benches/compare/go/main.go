// Echo and fan-out in Go: `go_server echo|fanout HOST:PORT|PATH`.
//
// How it is written:
//   - One goroutine for each connection, which reads and writes; GOMAXPROCS is 1, as every other peer has one thread.
//   - A goroutine that waits in Read holds its buffer, so a pool would save nothing. Each starts with 4 KiB and gets 64 KiB
//     once a read has filled it: idle ones stay small, bulk goes in large pieces. Not io.Copy: between two TCP sockets it
//     splices through a pipe, which is two more system calls for each small message.
//   - Write blocks the goroutine until the kernel has taken all, and meanwhile it does not read: that is the flow control.
//   - Go sets TCP_NODELAY by default; keep-alive probes, three more calls for each connection, are turned off.
//   - The runtime's poller registers Unix streams for writing too, so each read by the peer wakes it for nothing.
//   - Fan-out: each member has a buffer and a goroutine that writes it. Lines are appended to each member's buffer, as they
//     would be if not everybody got the same lines; the writer is woken by the first of them, and lets every runnable
//     goroutine run before it takes what has gathered, so the lines of one pass go out in one write. A channel of lines for
//     each member, with net.Buffers, would cost an operation of the channel and a piece of the write for each line. A
//     member with 16 MiB of unsent output is dropped.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
)

const (
	readBytesFirst = 4 << 10
	readBytes      = 64 << 10
	lineBytesMax   = 64 << 10
	outputBytesMax = 16 << 20
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 || (os.Args[1] != "echo" && os.Args[1] != "fanout") {
		log.Fatalf("usage: %s echo|fanout HOST:PORT|PATH", os.Args[0])
	}
	runtime.GOMAXPROCS(1)
	network := "tcp"
	if strings.Contains(os.Args[2], "/") {
		network = "unix"
		// A stale path.
		if found, err := os.Lstat(os.Args[2]); err == nil && found.Mode()&os.ModeSocket != 0 {
			os.Remove(os.Args[2])
		}
	}
	// The backlog is the system's maximum.
	config := net.ListenConfig{KeepAlive: -1}
	listener, err := config.Listen(context.Background(), network, os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	serve := echo
	if os.Args[1] == "fanout" {
		serve = new(room).serve
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn)
	}
}

// read passes on input until the stream ends or the receiver has enough.
func read(conn net.Conn, receive func([]byte) error) {
	buffer := make([]byte, readBytesFirst)
	for {
		n, err := conn.Read(buffer)
		if n > 0 && receive(buffer[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
		if n == len(buffer) && n < readBytes {
			buffer = make([]byte, readBytes)
		}
	}
}

func echo(conn net.Conn) {
	defer conn.Close()
	read(conn, func(data []byte) error {
		_, err := conn.Write(data)
		return err
	})
}

// A room sends every line to everybody.
type room struct {
	mutex   sync.Mutex
	members []*member
}

type member struct {
	conn     net.Conn
	index    int // Where it stands in the room.
	mutex    sync.Mutex
	changed  sync.Cond
	gathered []byte
	gone     bool
}

func (r *room) serve(conn net.Conn) {
	m := &member{conn: conn}
	m.changed.L = &m.mutex
	r.join(m)
	go m.write()
	var begun []byte
	read(conn, func(data []byte) error {
		whole := bytes.LastIndexByte(data, '\n') + 1
		if whole > 0 {
			r.say(begun, data[:whole])
			begun = begun[:0]
		}
		begun = append(begun, data[whole:]...)
		if len(begun) > lineBytesMax {
			return errors.New("a line without end")
		}
		return nil
	})
	r.part(m)
	m.leave()
}

func (r *room) join(m *member) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	m.index = len(r.members)
	r.members = append(r.members, m)
}

// part moves the last member into its place.
func (r *room) part(m *member) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	last := len(r.members) - 1
	r.members[m.index] = r.members[last]
	r.members[m.index].index = m.index
	r.members[last] = nil
	r.members = r.members[:last]
}

func (r *room) say(begun, rest []byte) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, m := range r.members {
		m.hear(begun, rest)
	}
}

func (m *member) hear(begun, rest []byte) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.gone {
		return
	}
	if len(m.gathered) == 0 {
		m.changed.Signal()
	}
	m.reserve(len(begun) + len(rest))
	m.gathered = append(append(m.gathered, begun...), rest...)
	if len(m.gathered) > outputBytesMax {
		// This ends its reader and its writer too.
		m.conn.Close()
		m.gone = true
	}
}

// reserve doubles the buffer: append grows a large one by only a quarter, and leaves more garbage each time.
func (m *member) reserve(count int) {
	have, wanted := cap(m.gathered), len(m.gathered)+count
	if wanted <= have {
		return
	}
	if wanted < 2*have {
		wanted = 2 * have
	}
	m.gathered = append(make([]byte, 0, wanted), m.gathered...)
}

// leave writes the remaining output, and then closes the connection.
func (m *member) leave() {
	m.mutex.Lock()
	m.gone = true
	m.mutex.Unlock()
	m.changed.Signal()
}

func (m *member) write() {
	defer m.conn.Close()
	var taken []byte
	for {
		m.mutex.Lock()
		for len(m.gathered) == 0 && !m.gone {
			m.changed.Wait()
		}
		m.mutex.Unlock()
		runtime.Gosched()
		m.mutex.Lock()
		taken, m.gathered = m.gathered, taken[:0]
		gone := m.gone
		m.mutex.Unlock()
		if _, err := m.conn.Write(taken); err != nil || gone {
			return
		}
	}
}
