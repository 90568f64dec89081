// Renders the templates of a chart with Go's own engine and the few functions of Helm that the chart uses.
// Reads {"templates": {name: text}, "data": {...}} from stdin and writes {name: text}.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
)

type input struct {
	Templates map[string]string `json:"templates"`
	Data      map[string]any    `json:"data"`
}

func number(value any) int64 {
	switch given := value.(type) {
	case float64:
		return int64(given)
	case int:
		return int64(given)
	default:
		panic(fmt.Sprintf("expected a number: %v", value))
	}
}

func asJSON(value any) (string, error) {
	text, err := json.Marshal(value)
	return string(text), err
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	var given input
	check(json.NewDecoder(os.Stdin).Decode(&given))
	all := template.New("chart")
	all.Option("missingkey=zero")
	all.Funcs(template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var text strings.Builder
			err := all.ExecuteTemplate(&text, name, data)
			return text.String(), err
		},
		"nindent": func(count int, text string) string {
			return "\n" + strings.Repeat(" ", count) + strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", count))
		},
		// JSON is YAML.
		"toYaml": asJSON,
		"toJson": asJSON,
		"int":    number,
		"default": func(otherwise any, value any) any {
			if value == nil || value == "" || value == float64(0) {
				return otherwise
			}
			return value
		},
		"add": func(values ...any) int64 {
			var sum int64
			for _, value := range values {
				sum += number(value)
			}
			return sum
		},
	})
	for name, text := range given.Templates {
		_, err := all.New(name).Parse(text)
		check(err)
	}
	rendered := map[string]string{}
	for name := range given.Templates {
		if strings.HasSuffix(name, ".yaml") {
			var text strings.Builder
			check(all.ExecuteTemplate(&text, name, given.Data))
			rendered[name] = text.String()
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(rendered))
}
