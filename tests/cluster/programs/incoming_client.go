// A client in a pod: incoming_client VERB ADDRESS..., or get PATH ADDRESS... What it says is what it was answered.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

var patience = 10 * time.Second

func dial(address string) net.Conn {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		log.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func client(http2 bool) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), ExpectContinueTimeout: patience}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{Transport: transport, Timeout: patience}
}

func request(method, address, path string, body io.Reader, headers []string) *http.Request {
	made, err := http.NewRequest(method, "http://"+address+path, body)
	if err != nil {
		log.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		made.Header.Set(name, value)
	}
	return made
}

func said(by *http.Client, asked *http.Request) string {
	answer, err := by.Do(asked)
	if err != nil {
		return fmt.Sprintf("failed: %v\n", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Sprintf("failed: %s, then %v\n", body, err)
	}
	return fmt.Sprintf("%s%s", body, map[bool]string{true: "", false: "\n"}[bytes.HasSuffix(body, []byte("\n"))])
}

func get(path string, addresses []string) {
	for _, address := range addresses {
		fmt.Print(said(client(false), request("GET", address, path, nil, nil)))
	}
}

// Three requests over one connection within TLS, and what it came to: protocol and certificate.
func secured(address string, http2 bool, headers []string) {
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "web"}}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetHTTP2(http2)
	by := &http.Client{Transport: transport, Timeout: patience}
	for number := range 3 {
		asked := request("POST", address, fmt.Sprintf("/%d", number), strings.NewReader("body"), headers)
		asked.URL.Scheme = "https"
		answer, err := by.Do(asked)
		if err != nil {
			fmt.Printf("failed: %v\n", err)
			continue
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		fmt.Printf("%s %s %q\n", answer.Proto, answer.TLS.PeerCertificates[0].Subject.CommonName, body)
	}
}

// Ways to speak HTTP, each on connections of its own.
func manners(address string, headers []string) {
	one, two := client(false), client(true)
	for number := range 3 {
		fmt.Print("keep-alive ", said(one, request("GET", address, fmt.Sprintf("/%d", number), nil, headers)))
	}
	fmt.Print("chunked answer ", said(client(false), request("GET", address, "/chunked", nil, headers)))
	chunked := request("POST", address, "/chunks", io.MultiReader(strings.NewReader("a body"), strings.NewReader(" in chunks")), headers)
	fmt.Print("chunked request ", said(client(false), chunked))
	waits := request("POST", address, "/continue", strings.NewReader("after the server's 100"), headers)
	waits.Header.Set("Expect", "100-continue")
	fmt.Print("100-continue ", said(client(false), waits))
	for number := range 3 {
		fmt.Print("HTTP/2 ", said(two, request("POST", address, fmt.Sprintf("/%d", number), strings.NewReader("body"), headers)))
	}
	fmt.Print("unary ", call(two, address, headers, "one"))
	fmt.Print("streaming ", call(two, address, headers, "one", "two", "three"))
	fmt.Print("WebSocket ", webSocket(address, headers))
}

// Each message is sent when the answer to the one before has come.
func call(by *http.Client, address string, headers []string, messages ...string) string {
	reader, writer := io.Pipe()
	asked := request("POST", address, "/calls.Echo/Talk", reader, headers)
	asked.Header.Set("Content-Type", "application/grpc")
	asked.Header.Set("Te", "trailers")
	send := func(text string) {
		writer.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(text))), text...))
	}
	go send(messages[0])
	answer, err := by.Do(asked)
	if err != nil {
		return fmt.Sprintf("failed: %v\n", err)
	}
	defer answer.Body.Close()
	heard := []string{}
	for number := range messages {
		head := make([]byte, 5)
		if _, err := io.ReadFull(answer.Body, head); err != nil {
			return fmt.Sprintf("failed: %v after %q\n", err, heard)
		}
		message := make([]byte, binary.BigEndian.Uint32(head[1:]))
		io.ReadFull(answer.Body, message)
		heard = append(heard, string(message))
		if number+1 < len(messages) {
			send(messages[number+1])
		}
	}
	writer.Close()
	io.ReadAll(answer.Body)
	return fmt.Sprintf("%q status %q\n", heard, answer.Trailer.Get("Grpc-Status"))
}

func webSocket(address string, headers []string) string {
	conn := dial(address)
	defer conn.Close()
	asked := request("GET", address, "/ws", nil, headers)
	asked.Header.Set("Upgrade", "websocket")
	asked.Header.Set("Connection", "Upgrade")
	asked.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	asked.Header.Set("Sec-WebSocket-Version", "13")
	asked.Write(conn)
	from := bufio.NewReader(conn)
	answer, err := http.ReadResponse(from, asked)
	if err != nil {
		return fmt.Sprintf("failed: %v\n", err)
	}
	heard := []string{answer.Status, answer.Header.Get("Sec-WebSocket-Accept")}
	for _, text := range []string{"one", "two"} {
		conn.Write(append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...))
		head := make([]byte, 2)
		if _, err := io.ReadFull(from, head); err != nil {
			return fmt.Sprintf("failed: %v after %q\n", err, heard)
		}
		data := make([]byte, head[1])
		io.ReadFull(from, data)
		heard = append(heard, string(data))
	}
	return fmt.Sprintf("%q\n", heard)
}

// What is given goes to the server as it is, and what comes until it closes is said as it is.
func raw(address string) {
	conn := dial(address)
	io.Copy(conn, os.Stdin)
	io.Copy(os.Stdout, conn)
}

// Requests over as many connections, which stay open; how many were answered, and by whom.
func load(address string, connections, requests int) {
	var lock sync.Mutex
	var all sync.WaitGroup
	count := map[string]int{}
	for range connections {
		all.Add(1)
		go func() {
			defer all.Done()
			by := client(false)
			for range requests / connections {
				name, _, _ := strings.Cut(said(by, request("GET", address, "/load", nil, nil)), " ")
				lock.Lock()
				count[name]++
				lock.Unlock()
			}
		}()
	}
	all.Wait()
	fmt.Println(count)
}

// Asks once a second, each time by a new connection, until the one named answers: who answered each time.
func until(address, name string, times int) {
	patience = time.Second
	for tick := time.Tick(time.Second); times > 0; times-- {
		heard, _, _ := strings.Cut(said(client(false), request("GET", address, "/", nil, nil)), " ")
		fmt.Println(heard)
		if heard == name {
			return
		}
		<-tick
	}
}

// Connections that have asked once and stay until our input ends.
func hold(address string, connections int) {
	for range connections {
		conn := dial(address)
		request("GET", address, "/held", nil, nil).Write(conn)
		conn.Read(make([]byte, 1))
	}
	fmt.Println("held")
	io.Copy(io.Discard, os.Stdin)
}

// A request whose second half is sent when our input ends, and what is answered.
func across(address string) {
	conn := dial(address)
	conn.SetDeadline(time.Now().Add(9 * patience))
	fmt.Fprint(conn, "POST /across HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 12\r\n\r\nbefore")
	fmt.Println("held")
	io.Copy(io.Discard, os.Stdin)
	fmt.Fprint(conn, " after")
	_, err := io.Copy(os.Stdout, conn)
	fmt.Println(err)
}

// Connections whose request never ends, until our input does: a head of 50 KB, and one more byte a second.
func slow(address string, connections int) {
	conns := []net.Conn{}
	for range connections {
		conn := dial(address)
		conn.SetDeadline(time.Time{})
		fmt.Fprintf(conn, "GET /slow HTTP/1.1\r\nHost: x\r\nX-Slow: %s", strings.Repeat("x", 50_000))
		conns = append(conns, conn)
	}
	fmt.Println("held")
	go func() {
		for range time.Tick(time.Second) {
			for _, conn := range conns {
				conn.Write([]byte("x"))
			}
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}

// A header of as many MiB, as far as somebody reads it; then how it ended.
func huge(address string, size int) {
	conn := dial(address)
	conn.SetDeadline(time.Now().Add(9 * patience))
	fmt.Fprintf(conn, "GET /huge HTTP/1.1\r\nHost: x\r\nX-Huge: ")
	piece := bytes.Repeat([]byte("x"), 1<<20)
	for range size {
		if _, err := conn.Write(piece); err != nil {
			break
		}
	}
	fmt.Fprint(conn, "\r\n\r\n")
	line, _ := bufio.NewReader(conn).ReadString('\n')
	fmt.Printf("ended %q\n", line)
}

func number(at int) int {
	found, err := strconv.Atoi(os.Args[at])
	if err != nil {
		log.Fatal(err)
	}
	return found
}

func main() {
	address := os.Args[2]
	switch os.Args[1] {
	case "get":
		get(os.Args[2], os.Args[3:])
	case "manners":
		manners(address, os.Args[3:])
	case "https1", "https2":
		secured(address, os.Args[1] == "https2", os.Args[3:])
	case "raw":
		raw(address)
	case "load":
		load(address, number(3), number(4))
	case "until":
		until(address, os.Args[3], number(4))
	case "hold":
		hold(address, number(3))
	case "across":
		across(address)
	case "slow":
		slow(address, number(3))
	case "huge":
		huge(address, number(3))
	}
}
