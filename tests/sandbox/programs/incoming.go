// Serves HTTP on the port given: each client is told what the server sees of it.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", ":"+os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	http.Serve(listener, http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		fmt.Fprint(answer, request.RemoteAddr, " ", request.Context().Value(http.LocalAddrContextKey), " ",
			listener.Addr().(*net.TCPAddr).Port)
	}))
}
