// A web server of both HTTPs by TLS: `tls_web NAME PORT CERTIFICATE KEY [asks]`; says "up".
//
// Answers `NAME PROTOCOL PATH CLIENT`; asks: with the name in the client's certificate, which it must have.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	name, files := os.Args[1], os.Args[3:5]
	config := &tls.Config{}
	if len(os.Args) > 5 {
		config.ClientAuth = tls.RequireAnyClientCert
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "%s %s %s %s", name, r.Proto, r.URL.Path, host)
		for _, each := range r.TLS.PeerCertificates {
			fmt.Fprintf(w, " %s", each.Subject.CommonName)
		}
	})
	listener, err := net.Listen("tcp", ":"+os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("up")
	server := &http.Server{TLSConfig: config, ErrorLog: log.New(io.Discard, "", 0)}
	log.Fatal(server.ServeTLS(listener, files[0], files[1]))
}
