// Reads the file 4,000 times in 200 goroutines, so that the scheduler's preemption signals hit calls that
// are being answered; prints its content, its size, the directory's names and the host name.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
)

func main() {
	runtime.GOMAXPROCS(4)
	path, folder := os.Args[1], os.Args[2]
	var wait sync.WaitGroup
	failed := make(chan error, 4000)
	for range 200 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for range 20 {
				if _, err := os.ReadFile(path); err != nil {
					failed <- err
				}
			}
		}()
	}
	wait.Wait()
	if len(failed) > 0 {
		fmt.Println("failed", len(failed), <-failed)
		os.Exit(1)
	}
	text, _ := os.ReadFile(path)
	info, err := os.Stat(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	entries, _ := os.ReadDir(folder)
	host, _ := os.Hostname()
	fmt.Printf("%s%d %d %s\n", text, info.Size(), len(entries), host)
}
