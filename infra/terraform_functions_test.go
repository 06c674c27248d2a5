package infra_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functionsOf is Terraform's functions, as far as the modules use them: most are cty's own. file reads below the module's
// parent and nowhere else; what a module reads of an archive is pretended.
func functionsOf(m *configuration) map[string]function.Function {
	return map[string]function.Function{
		"ceil": stdlib.CeilFunc, "coalesce": stdlib.CoalesceFunc, "concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc,
		"distinct": stdlib.DistinctFunc, "flatten": stdlib.FlattenFunc, "floor": stdlib.FloorFunc, "join": stdlib.JoinFunc,
		"jsondecode": stdlib.JSONDecodeFunc, "jsonencode": stdlib.JSONEncodeFunc, "keys": stdlib.KeysFunc, "length": length,
		"lookup": stdlib.LookupFunc, "merge": stdlib.MergeFunc, "regex": stdlib.RegexFunc, "split": stdlib.SplitFunc,
		"title": stdlib.TitleFunc, "trimsuffix": stdlib.TrimSuffixFunc, "values": stdlib.ValuesFunc,
		"can": tryfunc.CanFunc, "try": tryfunc.TryFunc,

		"startswith": ofTexts(func(a []string) cty.Value { return cty.BoolVal(strings.HasPrefix(a[0], a[1])) }, cty.Bool, 2),
		"endswith":   ofTexts(func(a []string) cty.Value { return cty.BoolVal(strings.HasSuffix(a[0], a[1])) }, cty.Bool, 2),
		"replace":    ofTexts(replace, cty.String, 3),
		"sha256": ofTexts(func(a []string) cty.Value {
			sum := sha256.Sum256([]byte(a[0]))
			return cty.StringVal(hex.EncodeToString(sum[:]))
		}, cty.String, 1),
		"filebase64sha256": ofTexts(func(a []string) cty.Value { return cty.StringVal("hash of " + a[0]) }, cty.String, 1),
		"filesha256":       ofTexts(func(a []string) cty.Value { return cty.StringVal("hash of " + a[0]) }, cty.String, 1),
		"file": function.New(&function.Spec{
			Params: []function.Parameter{{Type: cty.String}},
			Type:   function.StaticReturnType(cty.String),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				path := args[0].AsString()
				if !strings.HasPrefix(path, m.dir+"/../") {
					return cty.NilVal, fmt.Errorf("file(%q) is not beside the module", path)
				}
				data, err := os.ReadFile(path)
				return cty.StringVal(string(data)), err
			},
		}),
		"toset":        function.New(&function.Spec{Params: anything, Type: function.StaticReturnType(cty.Set(cty.String)), Impl: toSet}),
		"nonsensitive": function.New(&function.Spec{Params: anything, Type: same, Impl: func(a []cty.Value, _ cty.Type) (cty.Value, error) { return a[0], nil }}),
		"tostring": function.New(&function.Spec{Params: anything, Type: function.StaticReturnType(cty.String), Impl: func(a []cty.Value, t cty.Type) (cty.Value, error) {
			return convert.Convert(a[0], t)
		}}),
		"anytrue": ofBools(true),
		"alltrue": ofBools(false),
		"one": function.New(&function.Spec{Params: anything, Type: function.StaticReturnType(cty.String), Impl: func(a []cty.Value, _ cty.Type) (cty.Value, error) {
			switch all := texts(a[0]); len(all) {
			case 0:
				return cty.NullVal(cty.String), nil
			case 1:
				return cty.StringVal(all[0]), nil
			default:
				return cty.NilVal, fmt.Errorf("one of %d", len(all))
			}
		}}),
	}
}

var anything = []function.Parameter{{Type: cty.DynamicPseudoType, AllowNull: true}}

func same(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil }

// length is cty's, and of strings besides.
var length = function.New(&function.Spec{Params: anything, Type: function.StaticReturnType(cty.Number), Impl: func(a []cty.Value, _ cty.Type) (cty.Value, error) {
	if a[0].Type() == cty.String {
		return cty.NumberIntVal(int64(len(a[0].AsString()))), nil
	}
	return cty.NumberIntVal(int64(a[0].LengthInt())), nil
}})

func toSet(args []cty.Value, t cty.Type) (cty.Value, error) { return convert.Convert(args[0], t) }

func ofTexts(f func([]string) cty.Value, result cty.Type, n int) function.Function {
	params := make([]function.Parameter, n)
	for i := range params {
		params[i].Type = cty.String
	}
	return function.New(&function.Spec{Params: params, Type: function.StaticReturnType(result), Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		var all []string
		for _, a := range args {
			all = append(all, a.AsString())
		}
		return f(all), nil
	}})
}

func ofBools(any bool) function.Function {
	return function.New(&function.Spec{Params: anything, Type: function.StaticReturnType(cty.Bool), Impl: func(a []cty.Value, _ cty.Type) (cty.Value, error) {
		for it := a[0].ElementIterator(); it.Next(); {
			if _, e := it.Element(); e.True() == any {
				return cty.BoolVal(any), nil
			}
		}
		return cty.BoolVal(!any), nil
	}})
}

// replace takes a pattern between slashes as a regular expression, as Terraform does.
func replace(a []string) cty.Value {
	if p := a[1]; len(p) > 1 && p[0] == '/' && p[len(p)-1] == '/' {
		return cty.StringVal(regexp.MustCompile(p[1:len(p)-1]).ReplaceAllString(a[0], a[2]))
	}
	return cty.StringVal(strings.ReplaceAll(a[0], a[1], a[2]))
}
