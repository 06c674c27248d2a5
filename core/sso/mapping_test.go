package sso_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

func id64(n int64) *int64 { return &n }

func numbers(from, n int) (out []any) {
	for i := range n {
		out = append(out, float64(from+i))
	}
	return out
}

func names(n int) (out []any) {
	for i := range n {
		out = append(out, fmt.Sprintf("g%03d", i))
	}
	return out
}

func sortedNames(n int) (out []core.GroupName) {
	for i := range n {
		out = append(out, core.GroupName(fmt.Sprintf("g%03d", i)))
	}
	return out
}

func TestMapping(t *testing.T) {
	const ada = "ada@example.com"
	for _, tc := range []struct {
		name       string
		mappers    sso.Mappers
		prefix     string
		attributes map[string]any
		want       sso.Identity // the e-mail, where it is missing, is ada's
		refused    sso.CheckName
		noted      sso.CheckName
		says       string // in what was found, expected or is to be done, of that check
	}{
		{name: "all of SAML", attributes: map[string]any{
			"email": []any{"\n  Ada@Example.com\n"}, "GROUPS": []any{"ops", "dev", "ops"}, "UID": []any{"\n4321\n"}, "GID": []any{"8765"},
			"SUPPLEMENTARYGROUPS": []any{"200", "300", "100"}, "firstName": []any{" Ada "}, "lastName": []any{"Lovelace"},
		}, want: sso.Identity{
			Groups: []core.GroupName{"dev", "ops"}, UID: id64(4321), GID: id64(8765), SupplementaryGroups: []int64{100, 200, 300},
			FirstName: "Ada", LastName: "Lovelace",
		}},
		{name: "all of OpenID", attributes: map[string]any{
			"email": ada, "GROUPS": []any{"dev"}, "UID": 4321.0, "GID": "8765", "SUPPLEMENTARYGROUPS": []any{100.0, "200"}, "firstName": "Ada", "lastName": "Lovelace",
		}, want: sso.Identity{
			Groups: []core.GroupName{"dev"}, UID: id64(4321), GID: id64(8765), SupplementaryGroups: []int64{100, 200}, FirstName: "Ada", LastName: "Lovelace",
		}},
		{name: "renamed", mappers: sso.Mappers{Email: "mail", Groups: "memberOf", UID: "uidNumber"}, attributes: map[string]any{
			"mail": ada, "memberOf": "dev", "uidNumber": 5.0, "email": "eve@example.com", "GROUPS": "admins", "UID": 6.0,
		}, want: sso.Identity{Groups: []core.GroupName{"dev"}, UID: id64(5)}},

		{name: "no e-mail", attributes: map[string]any{"GROUPS": "dev"}, refused: sso.CheckEmail, says: "send the person's e-mail as `email`"},
		{name: "e-mail in another case", attributes: map[string]any{"Email": ada}, refused: sso.CheckEmail, says: "sends `Email`: rename the mapping of email to it"},
		{name: "e-mail as AD FS sends it", attributes: map[string]any{"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress": []any{ada}},
			refused: sso.CheckEmail, says: "claims/emailaddress"},
		{name: "e-mail twice", attributes: map[string]any{"email": []any{ada, "eve@example.com"}}, refused: sso.CheckEmail, says: "one value"}, // SAML-135
		{name: "e-mail twice alike", attributes: map[string]any{"email": []any{ada, "ADA@example.com "}}},
		{name: "e-mail blank", attributes: map[string]any{"email": []any{" ", ""}}, refused: sso.CheckEmail},
		{name: "e-mail null", attributes: map[string]any{"email": nil}, refused: sso.CheckEmail},
		{name: "e-mail a number", attributes: map[string]any{"email": 5.0}, refused: sso.CheckEmail, says: "a number"},
		{name: "e-mail an object", attributes: map[string]any{"email": map[string]any{"x": ada}}, refused: sso.CheckEmail, says: "an object"},
		{name: "e-mail reserved", attributes: map[string]any{"email": "system:masters"}, refused: sso.CheckEmail, says: "reserved"},         // K8S-001
		{name: "e-mail reserved by look", attributes: map[string]any{"email": "ｓystem:masters"}, refused: sso.CheckEmail, says: "reserved"}, // K8S-001
		{name: "e-mail of another spelling", attributes: map[string]any{"email": "ａda@example.com"}, refused: sso.CheckEmail, says: "spelling"},
		{name: "e-mail decomposed", attributes: map[string]any{"email": "andre\u0301@example.com"}, want: sso.Identity{Email: "andr\u00e9@example.com"}},
		{name: "two e-mails in one", attributes: map[string]any{"email": "ada@example.com,eve@example.com"}, refused: sso.CheckEmail, says: "local@domain"}, // SAML-135
		{name: "e-mail in quotes", attributes: map[string]any{"email": `"x"@evil@example.com`}, refused: sso.CheckEmail, says: "local@domain"},              // SAML-135
		{name: "e-mail of no domain", attributes: map[string]any{"email": "ada"}, refused: sso.CheckEmail, says: "local@domain"},

		// SAML-137
		{name: "groups from a string", attributes: map[string]any{"email": ada, "GROUPS": "a,b"}, want: sso.Identity{Groups: []core.GroupName{"a,b"}}},
		{name: "groups are no JSON", attributes: map[string]any{"email": ada, "GROUPS": `["a","b"]`}, want: sso.Identity{Groups: []core.GroupName{`["a","b"]`}}},
		{name: "groups from a map", attributes: map[string]any{"email": ada, "GROUPS": map[string]any{"1": "a", "2": []any{"c", "b"}}},
			want: sso.Identity{Groups: []core.GroupName{"a", "b", "c"}}},
		{name: "groups with a prefix", prefix: "okta:", attributes: map[string]any{"email": ada, "GROUPS": []any{"a", "system:masters"}},
			want: sso.Identity{Groups: []core.GroupName{"okta:a"}}, noted: sso.CheckGroups, says: "`system:masters` (is a reserved name)"},
		{name: "reserved by the prefix", prefix: "sys", attributes: map[string]any{"email": ada, "GROUPS": []any{"tem:masters", "a"}},
			want: sso.Identity{Groups: []core.GroupName{"sysa"}}, noted: sso.CheckGroups, says: "reserved"},
		{name: "groups dropped", attributes: map[string]any{"email": ada, "GROUPS": []any{"a", "system:masters", "*", 7.0, "kube:x", "x\u202ey", "openshift:y", "fleetpass-id:uid:0", ""}},
			want: sso.Identity{Groups: []core.GroupName{"a"}}, noted: sso.CheckGroups, says: "7 dropped"},
		{name: "dropped ones are named up to five", attributes: map[string]any{"email": ada, "GROUPS": []any{"system:1", "system:2", "system:3", "system:4", "system:5", "system:6"}},
			noted: sso.CheckGroups, says: "and 1 more"},
		{name: "500 groups", attributes: map[string]any{"email": ada, "GROUPS": append(names(500), names(500)...)}, want: sso.Identity{Groups: sortedNames(500)}},
		{name: "501 groups", attributes: map[string]any{"email": ada, "GROUPS": names(501)}, refused: sso.CheckGroups, says: "501"},
		{name: "groups under another name", attributes: map[string]any{"email": ada, "groups": []any{"a"}}, noted: sso.CheckGroups, says: "sends `groups`"},
		{name: "groups a number", attributes: map[string]any{"email": ada, "GROUPS": 7.0}, noted: sso.CheckGroups, says: "is no string"},
		{name: "group too long", attributes: map[string]any{"email": ada, "GROUPS": strings.Repeat("g", 257)}, noted: sso.CheckGroups, says: "over 256 bytes"},

		{name: "uid at the top", attributes: map[string]any{"email": ada, "UID": 2147483647.0}, want: sso.Identity{UID: id64(2147483647)}},
		{name: "uid over the top", attributes: map[string]any{"email": ada, "UID": 2147483648.0}, refused: sso.CheckUID, says: "2147483647"},
		{name: "uid over the top in digits", attributes: map[string]any{"email": ada, "UID": "2147483648"}, refused: sso.CheckUID},
		{name: "uid of root", attributes: map[string]any{"email": ada, "UID": 0.0}, refused: sso.CheckUID, says: "nothing runs as root"},
		{name: "uid of root in digits", attributes: map[string]any{"email": ada, "UID": "0"}, refused: sso.CheckUID},
		{name: "uid negative", attributes: map[string]any{"email": ada, "UID": "-1"}, refused: sso.CheckUID},
		{name: "uid a fraction", attributes: map[string]any{"email": ada, "UID": 1.5}, refused: sso.CheckUID, says: "1.5"},
		{name: "uid with an exponent", attributes: map[string]any{"email": ada, "UID": "1e3"}, refused: sso.CheckUID, says: "`1e3`"},
		{name: "uid with a sign", attributes: map[string]any{"email": ada, "UID": "+5"}, refused: sso.CheckUID},
		{name: "uid octal", attributes: map[string]any{"email": ada, "UID": "0100"}, refused: sso.CheckUID},
		{name: "uid in other digits", attributes: map[string]any{"email": ada, "UID": "１２"}, refused: sso.CheckUID},
		{name: "uid a boolean", attributes: map[string]any{"email": ada, "UID": true}, refused: sso.CheckUID, says: "a boolean"},
		{name: "uid a list of one", attributes: map[string]any{"email": ada, "UID": []any{7.0}}, want: sso.Identity{UID: id64(7)}},
		{name: "uid twice", attributes: map[string]any{"email": ada, "UID": []any{"7", "8"}}, refused: sso.CheckUID, says: "one value"},
		{name: "uid blank", attributes: map[string]any{"email": ada, "UID": []any{""}}},
		{name: "gid that is none", attributes: map[string]any{"email": ada, "GID": "staff"}, refused: sso.CheckGID, says: "`staff`"},
		{name: "uid under another name", attributes: map[string]any{"email": ada, "uidNumber": 5.0}, noted: sso.CheckUID, says: "sends `uidNumber`"},

		{name: "supplementary groups from a map", attributes: map[string]any{"email": ada, "SUPPLEMENTARYGROUPS": map[string]any{"b": 2.0, "a": []any{"1", 2.0}}},
			want: sso.Identity{SupplementaryGroups: []int64{1, 2}}},
		{name: "supplementary groups in one string", attributes: map[string]any{"email": ada, "SUPPLEMENTARYGROUPS": "100,200"},
			refused: sso.CheckSupplementary, says: "each a value of its own"},
		{name: "64 supplementary groups", attributes: map[string]any{"email": ada, "SUPPLEMENTARYGROUPS": append(numbers(1, 64), numbers(1, 64)...)},
			want: sso.Identity{SupplementaryGroups: func() (out []int64) {
				for i := range int64(64) {
					out = append(out, i+1)
				}
				return out
			}()}},
		{name: "65 supplementary groups", attributes: map[string]any{"email": ada, "SUPPLEMENTARYGROUPS": numbers(1, 65)}, refused: sso.CheckSupplementary, says: "at most 64"},
		{name: "a supplementary group of root", attributes: map[string]any{"email": ada, "SUPPLEMENTARYGROUPS": []any{5.0, 0.0}}, refused: sso.CheckSupplementary},

		{name: "first name too long", attributes: map[string]any{"email": ada, "firstName": strings.Repeat("a", 101)}, noted: sso.CheckFirstName, says: "at most 100"},
		{name: "first name of 100", attributes: map[string]any{"email": ada, "firstName": strings.Repeat("é", 100)}, want: sso.Identity{FirstName: strings.Repeat("é", 100)}},
		{name: "first name that does not print", attributes: map[string]any{"email": ada, "firstName": "a\u202eb"}, noted: sso.CheckFirstName},
		{name: "first name a list", attributes: map[string]any{"email": ada, "firstName": []any{"Ada", "Augusta"}}, noted: sso.CheckFirstName, says: "2 values"},
		{name: "last name an object", attributes: map[string]any{"email": ada, "lastName": map[string]any{}, "firstName": "A"}, want: sso.Identity{FirstName: "A"}},
		{name: "last name a number", attributes: map[string]any{"email": ada, "lastName": 5.0}, noted: sso.CheckLastName},
		{name: "name as OpenID has it", attributes: map[string]any{"email": ada, "given_name": "Ada"}, noted: sso.CheckFirstName, says: "sends `given_name`"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r sso.Report
			got, ok := tc.mappers.Map(sso.Connection{GroupPrefix: tc.prefix}, tc.attributes, &r)
			if ok != (tc.refused == "") {
				t.Fatalf("%v, want refused by %q; %+v", ok, tc.refused, r.Checks)
			}
			if failed, is := r.Failure(); is != !ok || failed.Name != tc.refused {
				t.Errorf("failed at %+v, want %q", failed, tc.refused)
			}
			if tc.want.Email == "" {
				tc.want.Email = ada
			}
			if !ok {
				tc.want = sso.Identity{}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, c := range r.Checks {
				if name := c.Name; (c.Result == sso.Noted) != (name == tc.noted) && tc.noted != "" {
					t.Errorf("%+v, want %q noted", c, tc.noted)
				}
				if c.Result != sso.Passed && c.Fix == "" {
					t.Errorf("%+v says no fix", c)
				}
				if (c.Name == tc.noted || c.Name == tc.refused) && !strings.Contains(c.Found+"\n"+c.Expected+"\n"+c.Fix, tc.says) {
					t.Errorf("%+v does not say %q", c, tc.says)
				}
			}
		})
	}
}

// Every attribute has its check, in order, also when nothing was sent.
func TestMappingNotesEachAttribute(t *testing.T) {
	var r sso.Report
	if _, ok := (sso.Mappers{}).Map(sso.Connection{}, map[string]any{"email": "ada@example.com"}, &r); !ok {
		t.Fatal(r.Checks)
	}
	var got []sso.CheckName
	for _, c := range r.Checks {
		got = append(got, c.Name)
		if c.Name != sso.CheckEmail && (c.Result != sso.Passed || c.Found != "not sent") {
			t.Errorf("%+v", c)
		}
	}
	want := []sso.CheckName{sso.CheckEmail, sso.CheckGroups, sso.CheckUID, sso.CheckGID, sso.CheckSupplementary, sso.CheckFirstName, sso.CheckLastName}
	if !slices.Equal(got, want) {
		t.Errorf("checks %v", got)
	}
}

// FuzzMapping: whatever a provider sends, the identity that comes of it is within its bounds, reserved names are in none, and
// the report says why there is none.
func FuzzMapping(f *testing.F) {
	for _, seed := range []string{
		`{"email":"ada@example.com","GROUPS":["a","system:masters"],"UID":1000,"GID":"1000","SUPPLEMENTARYGROUPS":[1,"2"],"firstName":"Ada"}`,
		`{"email":["ada@example.com"],"GROUPS":{"a":["b",["c"]],"d":null},"UID":["1e3"]}`,
		`{"Email":"x","http://schemas.xmlsoap.org/claims/Group":"y"}`,
		`{"email":"\ufb01@example.com","GROUPS":"\u200bsystem:masters","UID":1e300,"SUPPLEMENTARYGROUPS":{"x":-0}}`,
		`{"email":"a@b","UID":9007199254740993,"GID":0.9999999999999999}`,
	} {
		f.Add([]byte(seed), "okta:")
		f.Add([]byte(seed), "")
	}
	f.Fuzz(func(t *testing.T, data []byte, prefix string) {
		var attributes map[string]any
		if json.Unmarshal(data, &attributes) != nil {
			return
		}
		var r sso.Report
		id, ok := (sso.Mappers{}).Map(sso.Connection{GroupPrefix: prefix}, attributes, &r)
		failed, is := r.Failure()
		if ok == is || is && failed.Fix == "" {
			t.Fatalf("%v with %+v", ok, r.Checks)
		}
		for _, c := range r.Checks {
			if !utf8.ValidString(c.Found+c.Expected+c.Fix) && utf8.Valid(data) {
				t.Errorf("%q is not UTF-8", c.Found)
			}
		}
		if !ok {
			if id.Email != "" {
				t.Errorf("refused, but %+v", id)
			}
			return
		}
		if e, err := core.ParseEmail("email", string(id.Email)); err != nil || e != id.Email {
			t.Errorf("e-mail %q: %v", id.Email, err)
		}
		if len(id.Groups) > sso.MaxGroups || !slices.IsSorted(id.Groups) || len(slices.Compact(slices.Clone(id.Groups))) != len(id.Groups) {
			t.Errorf("groups %q", id.Groups)
		}
		for _, g := range id.Groups {
			if _, err := core.ParseGroupName("g", string(g)); err != nil || !strings.HasPrefix(string(g), strings.TrimLeft(prefix, " \t\r\n")) {
				t.Errorf("group %q: %v", g, err)
			}
		}
		ids := slices.Clone(id.SupplementaryGroups)
		for _, p := range []*int64{id.UID, id.GID} {
			if p != nil {
				ids = append(ids, *p)
			}
		}
		for _, n := range ids {
			if n < 1 || n > 1<<31-1 {
				t.Errorf("id %d", n)
			}
		}
		if !slices.IsSorted(id.SupplementaryGroups) || len(id.SupplementaryGroups) > 64 {
			t.Errorf("supplementary groups %v", id.SupplementaryGroups)
		}
	})
}
