// A web server by TLS and its load, of one thread each, with the words of requests.c:
// `serve PORT`, with the files $CERTIFICATE and $KEY; `load HOST PORT CONNECTIONS SECONDS keep|new`.
//
// A load says: requests a second, p50 and p99 in microseconds, and how many failed.
package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"time"
)

const request = "GET /hello HTTP/1.1\r\nHost: web\r\nUser-Agent: load/1\r\nAccept: */*\r\nX-Trace: 1\r\n\r\n"
const answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"

func serve(port string) {
	pair, err := tls.LoadX509KeyPair(os.Getenv("CERTIFICATE"), os.Getenv("KEY"))
	if err != nil {
		log.Fatal(err)
	}
	listener, err := tls.Listen("tcp", ":"+port, &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("up")
	for {
		made, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go answers(made)
	}
}

func answers(made net.Conn) {
	defer made.Close()
	for reader := bufio.NewReader(made); ; {
		for {
			line, err := reader.ReadString('\n')
			if err != nil {
				return
			}
			if strings.TrimSpace(line) == "" {
				break
			}
		}
		if _, err := io.WriteString(made, answer); err != nil {
			return
		}
	}
}

func asks(address string, each bool, until time.Time, times *[]float64, failed *int) {
	var made *tls.Conn
	buffer := make([]byte, len(answer))
	for time.Now().Before(until) {
		begun, err := time.Now(), error(nil)
		if made == nil {
			made, err = tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: "web"})
		}
		if err == nil {
			if _, err = io.WriteString(made, request); err == nil {
				_, err = io.ReadFull(made, buffer)
			}
		}
		if err != nil {
			*failed++
		} else {
			*times = append(*times, float64(time.Since(begun).Nanoseconds())/1000)
		}
		if made != nil && (each || err != nil) {
			made.Close()
			made = nil
		}
	}
}

func load(address string, connections int, seconds float64, each bool) {
	times, failed := make([][]float64, connections), make([]int, connections)
	done := make(chan bool)
	until := time.Now().Add(time.Duration(seconds * 1e9))
	for n := range times {
		go func(n int) { asks(address, each, until, &times[n], &failed[n]); done <- true }(n)
	}
	all, failures := []float64{}, 0
	for range times {
		<-done
	}
	for n := range times {
		all, failures = append(all, times[n]...), failures+failed[n]
	}
	sort.Float64s(all)
	if len(all) == 0 {
		log.Fatal("no request succeeded")
	}
	fmt.Println(float64(len(all))/seconds, all[len(all)/2], all[len(all)*99/100], failures)
}

func main() {
	runtime.GOMAXPROCS(1)
	if os.Args[1] == "serve" {
		serve(os.Args[2])
	}
	connections, _ := strconv.Atoi(os.Args[4])
	seconds, _ := strconv.ParseFloat(os.Args[5], 64)
	load(net.JoinHostPort(os.Args[2], os.Args[3]), connections, seconds, os.Args[6] == "new")
}
