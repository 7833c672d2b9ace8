// The probe (see probe.c) in Go.
package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"syscall"
)

func look(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		var number syscall.Errno
		errors.As(err, &number)
		return fmt.Sprintf("%s errno %d", path, int(number))
	}
	st := info.Sys().(*syscall.Stat_t)
	line := fmt.Sprintf("%s %o %d %d %d %d%09d %d %d", path, st.Mode, st.Uid, st.Gid, st.Size,
		st.Mtim.Sec, st.Mtim.Nsec, st.Ino, st.Nlink)
	mode := info.Mode()
	if mode&os.ModeSymlink != 0 {
		target, _ := os.Readlink(path)
		line += " -> " + target
		mode = os.ModeSymlink
		if followed, err := os.Stat(path); err == nil {
			mode = followed.Mode()
		}
	}
	if mode.IsRegular() {
		data, _ := os.ReadFile(path)
		line += " = " + hex.EncodeToString(data)
	}
	if mode.IsDir() {
		entries, _ := os.ReadDir(path)
		names := []string{}
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		sort.Strings(names)
		line += " : " + strings.Join(names, ",")
	}
	return line
}

func main() {
	for _, word := range os.Args[1:] {
		if strings.HasPrefix(word, "$") {
			if value, ok := os.LookupEnv(word[1:]); ok {
				fmt.Printf("env %s=%s\n", word[1:], value)
			} else {
				fmt.Printf("env %s unset\n", word[1:])
			}
		} else if word == "@host" {
			name, _ := os.Hostname()
			fmt.Println("host", name)
		} else {
			fmt.Println(look(word))
		}
	}
}
