package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

func printable(r rune) bool { return unicode.IsPrint(r) }

// table writes rows in columns, the first row being the heading.
func table(w io.Writer, rows [][]string) {
	tw := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if cell == "" {
				cell = "-"
			}
			row[i] = strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(clean(cell))
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	_ = tw.Flush()
}

// tick is a check mark or a cross, coloured on terminals that want it. The shape says it without the colour.
func (a *app) tick(ok bool) string {
	mark, colour := "✗", "31"
	if ok {
		mark, colour = "✓", "32"
	}
	if !a.colour {
		return mark
	}
	return "\x1b[" + colour + "m" + mark + "\x1b[0m"
}
