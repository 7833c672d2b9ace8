// Resolves names with Go's net package and prints what came of each, as names.py's table.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sort"
)

func resolve(name string) any {
	found, err := net.DefaultResolver.LookupHost(context.Background(), name)
	if err != nil {
		var failed *net.DNSError
		errors.As(err, &failed)
		return []any{failed.IsNotFound, failed.IsTemporary}
	}
	sort.Strings(found)
	return found
}

func main() {
	table := map[string]any{}
	for _, name := range os.Args[1:] {
		table[name] = resolve(name)
	}
	texts, err := net.LookupTXT("big")
	table["TXT big"] = []any{len(texts), fmt.Sprint(err)}
	if len(texts) > 0 {
		table["TXT big"] = len(texts[0])
	}
	_, services, err := net.LookupSRV("http", "tcp", "api")
	table["SRV"] = []any{services, fmt.Sprint(err)}
	reversed, err := net.LookupAddr("10.77.0.1")
	table["PTR"] = []any{reversed, fmt.Sprint(err)}
	json.NewEncoder(os.Stdout).Encode(table)
}
