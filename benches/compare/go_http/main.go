// HTTP in Go, by its standard library with its own settings: `go_http_server MODE HOST:PORT`; there is one mode.
//
// GET / is answered with a short text, anything else with 404.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/" {
		io.WriteString(w, "Hello, World!\n")
		return
	}
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, "404 Not Found\n")
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatalf("usage: %s MODE HOST:PORT", os.Args[0])
	}
	listener, err := net.Listen("tcp", os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	log.Fatal(http.Serve(listener, http.HandlerFunc(answer)))
}
