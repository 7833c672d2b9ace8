// An HTTP/2 server without TLS, as Go's standard library makes it: http2_server NAME [ADDRESS], prints its port.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
)

func main() {
	name := os.Args[1]
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		size, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%s %s %s %d %x %v\n", name, r.Method, r.URL, size, sum.Sum(nil), err)
	})
	http.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.Write(make([]byte, size))
	})
	http.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	})
	address := "127.0.0.1:0"
	if len(os.Args) > 2 {
		address = os.Args[2]
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	panic((&http.Server{Protocols: protocols}).Serve(listener))
}
