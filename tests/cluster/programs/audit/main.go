// Tails the audit log $LOG, rotates it again and again, and uploads to $STORE what each file had, until a last line.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"time"
)

// What the tailed file has more than was read.
func more(file *os.File, into *bytes.Buffer) {
	if _, err := io.Copy(into, file); err != nil {
		log.Fatal(err)
	}
}

func opened(path string) *os.File {
	for {
		file, err := os.Open(path)
		if err == nil {
			return file
		}
		if !errors.Is(err, fs.ErrNotExist) {
			log.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// One file, from its first line to its rotation; what was read of it while it grew.
func rotated(path, aside string) []byte {
	var tailed bytes.Buffer
	file := opened(path)
	defer file.Close()
	for i := 0; i < 20; i++ {
		more(file, &tailed)
		time.Sleep(10 * time.Millisecond)
	}
	if err := os.Rename(path, aside); err != nil {
		log.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // who had opened it by its old name has written
	more(file, &tailed)
	whole, err := os.ReadFile(aside)
	if err != nil {
		log.Fatal(err)
	}
	if !bytes.Equal(whole, tailed.Bytes()) {
		log.Fatalf("tailed %d bytes of %d", tailed.Len(), len(whole))
	}
	if err := os.Remove(aside); err != nil {
		log.Fatal(err)
	}
	return whole
}

func main() {
	path, files := os.Getenv("LOG"), 0
	if err := os.WriteFile(path+".tailed", nil, 0o644); err != nil { // who writes may begin
		log.Fatal(err)
	}
	for {
		lines := rotated(path, fmt.Sprint(path, ".", files))
		answer, err := http.Post(os.Getenv("STORE"), "application/x-ndjson", bytes.NewReader(lines))
		if err != nil || answer.StatusCode != http.StatusOK {
			log.Fatal(answer, err)
		}
		answer.Body.Close()
		files++
		if bytes.Contains(lines, []byte("last")) {
			break
		}
	}
	fmt.Println(files)
}
