// The network probe (see network.c) in Go.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	account  = "/var/run/secrets/kubernetes.io/serviceaccount/"
	question = "GET / HTTP/1.0\r\n\r\n"
)

func failure(err error) string {
	var unknown *net.DNSError
	if errors.As(err, &unknown) && unknown.IsNotFound {
		return "unknown"
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused"
	}
	return err.Error()
}

func body(conn net.Conn) string {
	text, _ := io.ReadAll(conn)
	_, words, _ := strings.Cut(string(text), "\r\n\r\n")
	return strings.TrimSpace(words)
}

func host(address net.Addr) string {
	name, _, _ := net.SplitHostPort(address.String())
	return name
}

func tcp(name, port string) string {
	conn, err := net.Dial("tcp", net.JoinHostPort(name, port))
	if err != nil {
		return failure(err)
	}
	defer conn.Close()
	io.WriteString(conn, question)
	return fmt.Sprint(body(conn), " from ", host(conn.LocalAddr()), " to ", host(conn.RemoteAddr()))
}

func all(name, port string) string {
	addresses, err := net.DefaultResolver.LookupHost(context.Background(), name)
	if err != nil {
		return failure(err)
	}
	lines := []string{}
	for _, address := range addresses {
		lines = append(lines, tcp(address, port))
	}
	return strings.Join(lines, "\nall "+name+": ")
}

func udp(name, port string) string {
	conn, err := net.Dial("udp", net.JoinHostPort(name, port))
	if err != nil {
		return failure(err)
	}
	defer conn.Close()
	io.WriteString(conn, question)
	conn.SetDeadline(time.Now().Add(time.Second)) // a service that is new does not answer yet
	text := make([]byte, 512)
	size, err := conn.Read(text)
	if err != nil {
		return failure(err)
	}
	return string(text[:size])
}

func unix(path, _ string) string {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return failure(err)
	}
	defer conn.Close()
	io.WriteString(conn, question)
	return body(conn)
}

func https(url, _ string) string {
	name, path, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
	authority, _ := os.ReadFile(account + "ca.crt")
	token, _ := os.ReadFile(account + "token")
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	conn, err := tls.Dial("tcp", name+":443", &tls.Config{RootCAs: trusted})
	if err != nil {
		return failure(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /%s HTTP/1.0\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, name, token)
	return strings.Join(strings.Fields(body(conn)), "")
}

func main() {
	ways := map[string]func(string, string) string{"tcp": tcp, "all": all, "udp": udp, "unix": unix, "https": https}
	for _, word := range os.Args[1:] {
		parts := append(strings.Split(word, ","), "")
		fmt.Printf("%s %s: %s\n", parts[0], parts[1], ways[parts[0]](parts[1], parts[2]))
	}
}
