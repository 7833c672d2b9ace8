// Servers that say who they are and whom they saw: network_servers NAME NETWORK=ADDRESS..., as net.Listen has them.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
)

func words(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	return fmt.Sprintf("%s saw %s", os.Args[1], address)
}

func datagrams(address string) error {
	conn, err := net.ListenPacket("udp", address)
	for err == nil {
		var from net.Addr
		if _, from, err = conn.ReadFrom(make([]byte, 512)); err == nil {
			_, err = conn.WriteTo([]byte(words(from.String())), from)
		}
	}
	return err
}

func streams(network, address string) error {
	listener, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	return http.Serve(listener, http.HandlerFunc(func(to http.ResponseWriter, asked *http.Request) {
		fmt.Fprint(to, words(asked.RemoteAddr))
	}))
}

func main() {
	ended := make(chan error)
	for _, word := range os.Args[2:] {
		network, address, _ := strings.Cut(word, "=")
		go func() {
			if network == "udp" {
				ended <- datagrams(address)
			} else {
				ended <- streams(network, address)
			}
		}()
	}
	log.Fatal(<-ended)
}
