package admin

import (
	"cmp"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
)

// schema is a JSON Schema (2020-12), or any other object of the document.
type schema = map[string]any

// identifiers are the schemas of types that say more than string or number.
var identifiers = map[reflect.Type]schema{
	reflect.TypeFor[time.Time]():          {"type": "string", "format": "date-time"},
	reflect.TypeFor[[]byte]():             {"type": "string", "contentEncoding": "base64"},
	reflect.TypeFor[core.TenantID]():      {"type": "string", "pattern": "^[a-z][-a-z0-9]{0,30}[a-z0-9]$", "minLength": 2, "maxLength": 32},
	reflect.TypeFor[core.Email]():         {"type": "string", "format": "email", "maxLength": 254},
	reflect.TypeFor[core.GroupName]():     {"type": "string", "minLength": 1, "maxLength": 256},
	reflect.TypeFor[core.UserID]():        {"type": "string"},
	reflect.TypeFor[core.ApplicationID](): {"type": "string"},
	reflect.TypeFor[core.ClusterID]():     {"type": "string", "format": "uuid"},
	reflect.TypeFor[core.ScopeID]():       {"type": "string", "minLength": 1, "maxLength": 100},
	reflect.TypeFor[core.RoleID]():        {"type": "integer", "enum": roleIDs()},
	reflect.TypeFor[core.RuleID]():        {"type": "integer", "minimum": 1},
	reflect.TypeFor[core.Revision]():      {"type": "integer", "minimum": 0},
	reflect.TypeFor[core.RequestID]():     {"type": "string"},
	reflect.TypeFor[core.Namespace]():     {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63},
}

const (
	applicationName = "^[a-z][-_a-z0-9]*[a-z0-9]$"
	scopeName       = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
)

func names63() schema { return schema{"pattern": scopeName, "minLength": 1, "maxLength": 63} }

func oneOf(values ...string) schema { return schema{"enum": values} }

func from(min, max int64) schema { return schema{"minimum": min, "maximum": max} }

func text(min, max int) schema { return schema{"minLength": min, "maxLength": max} }

// members says of single members what their Go types do not: "Type.member".
var members = map[string]schema{
	"AccessRuleRequest.subjectId":               text(1, 256),
	"AccessRuleRequest.reason":                  {"maxLength": 500},
	"PermittedScopesRequest.resourceType":       oneOf(entities()...),
	"Permission.resourceType":                   oneOf(entities()...),
	"ClusterRequest.name":                       names63(),
	"ClusterRequest.mode":                       oneOf("issuer", "agent"),
	"ClusterRequest.server":                     {"format": "uri"},
	"ClusterRequest.algorithm":                  oneOf("ES256", "RS256"),
	"Cluster.mode":                              oneOf("issuer", "agent"),
	"Cluster.algorithm":                         oneOf("ES256", "RS256"),
	"ClusterStatus.bootstrap":                   oneOf("current", "outdated", "missing"),
	"DepartmentRequest.name":                    names63(),
	"ProjectRequest.name":                       names63(),
	"TenantRequest.name":                        text(1, 100),
	"TenantPatch.state":                         oneOf("active", "suspended"),
	"UserRequest.email":                         {"format": "email", "minLength": 3, "maxLength": 254},
	"UserRequest.resetPassword":                 {"const": true},
	"UserRequest.notify":                        {"const": false},
	"UserPatch.uid":                             from(0, 1<<31-1),
	"UserPatch.gid":                             from(0, 1<<31-1),
	"GroupRequest.name":                         text(1, 256),
	"ApplicationRequest.name":                   {"pattern": applicationName, "minLength": 2, "maxLength": 255},
	"PasswordChange.currentPassword":            text(1, 255),
	"PasswordChange.newPassword":                text(8, 255),
	"Settings.idleTimeout":                      from(60, 604800),
	"Settings.absoluteLifetime":                 from(300, 2592000),
	"Settings.accessTokenLife":                  from(60, 3600),
	"Settings.clusterTokenLife":                 from(60, 3600),
	"BrowserSessionTimeout.idleTimeout":         from(1, 10080),
	"IdPRequest.name":                           {"maxLength": 100},
	"IdPRequest.alias":                          {"pattern": "^[a-z][-_a-z0-9]*[a-z0-9]$", "maxLength": 63},
	"SAMLData.metadataXmlType":                  oneOf("url", "file"),
	"SAMLData.metadataXmlFile":                  {"maxLength": api.MaxMetadataXML},
	"SAMLData.metadataXmlUrl":                   {"format": "uri"},
	"OIDCData.discoverDocumentUrl":              {"format": "uri"},
	"OIDCData.tokenEndpointAuthMethod":          oneOf("client_secret_basic", "client_secret_post", "private_key_jwt"),
	"OCPData.idpBaseUrl":                        {"format": "uri"},
	"AuditRecord.action":                        oneOf(auditActions...),
	"AccessKeyRequest.expiresIn":                from(60, 31622400),
	"AccessKeyRequest.name":                     text(1, 255),
	"SecretRequest.gracePeriod":                 from(0, 2592000),
	"AccessRuleBatch.action":                    oneOf(api.BatchDelete, api.BatchValidateDelete),
	"AccessRuleBatch.ids":                       {"minItems": 1, "maxItems": 100},
	"AccessRuleCreateFailure.payload":           {"type": "object"}, // what was sent, be it as wrong as it may
	"AuditRecord.result":                        oneOf("Succeeded", "Failed"),
	"Error.code":                                from(100, 599),
	"Count.count":                               {"minimum": 0},
	"AccessRuleList.totalRecords":               {"minimum": 0},
	"AccessRuleList.displayRecords":             {"minimum": 0},
	"ApplicationRequest.redirectUris":           {"type": "array", "items": schema{"type": "string", "format": "uri"}, "maxItems": 20},
	"ApplicationRequest.postLogoutRedirectUris": {"type": "array", "items": schema{"type": "string", "format": "uri"}, "maxItems": 20},
	"ApplicationPatch.redirectUris":             {"type": "array", "items": schema{"type": "string", "format": "uri"}, "maxItems": 20},
	"ApplicationPatch.postLogoutRedirectUris":   {"type": "array", "items": schema{"type": "string", "format": "uri"}, "maxItems": 20},
}

// entities are the types of resource that permissions are about.
func entities() (all []string) {
	for _, e := range policy.Entities() {
		all = append(all, e.String())
	}
	return all
}

// roleIDs are the system roles'.
func roleIDs() (all []int) {
	for _, r := range policy.Roles() {
		all = append(all, int(r.ID))
	}
	return all
}

// schemas makes schemas of Go types, by how they are written as JSON and by their comments.
type schemas struct {
	testing.TB
	made     map[string]schema       // by name, for components
	types    map[string]reflect.Type // of made
	requests map[string]bool         // the types that requests hold: read strictly, so nothing else may be there
	sources  map[string]comments     // by package
}

// comments are what the source of a package says of its types.
type comments struct {
	docs   map[string]string            // of types
	fields map[string]map[string]string // of fields, by type
	consts map[string][]string          // the strings of each type that has constants
}

func newSchemas(t testing.TB) *schemas {
	return &schemas{TB: t, made: map[string]schema{}, types: map[string]reflect.Type{}, requests: map[string]bool{}, sources: map[string]comments{}}
}

const module = "github.com/fleetpass/fleetpass/"

// source reads the package that a type is declared in.
func (s *schemas) source(t reflect.Type) comments {
	s.Helper()
	path, ours := strings.CutPrefix(t.PkgPath()+"/", module)
	if !ours {
		return comments{}
	}
	if src, read := s.sources[path]; read {
		return src
	}
	src := comments{docs: map[string]string{}, fields: map[string]map[string]string{}, consts: map[string][]string{}}
	files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(path), "*.go"))
	if err != nil || len(files) == 0 {
		s.Fatalf("no source of %s: %v", path, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			s.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") && path != "functions/admin/" {
			continue
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), name, data, parser.ParseComments)
		if err != nil {
			s.Fatal(err)
		}
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				src.read(g)
			}
		}
	}
	s.sources[path] = src
	return src
}

func (src comments) read(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			src.docs[spec.Name.Name] = flat(cmp.Or(spec.Doc.Text(), spec.Comment.Text(), g.Doc.Text()))
			fields, isStruct := spec.Type.(*ast.StructType)
			if !isStruct {
				continue
			}
			src.fields[spec.Name.Name] = map[string]string{}
			for _, f := range fields.Fields.List {
				for _, n := range f.Names {
					src.fields[spec.Name.Name][n.Name] = flat(strings.TrimSpace(f.Doc.Text() + " " + f.Comment.Text()))
				}
			}
		case *ast.ValueSpec:
			of, typed := spec.Type.(*ast.Ident)
			if g.Tok != gotoken.CONST || !typed {
				continue
			}
			for _, v := range spec.Values {
				if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
					value, _ := strconv.Unquote(lit.Value)
					src.consts[of.Name] = append(src.consts[of.Name], value)
				}
			}
		}
	}
}

// flat is a comment on one line.
func flat(comment string) string { return strings.Join(strings.Fields(comment), " ") }

// of is the schema of a type: a reference to a component for a struct with a name.
func (s *schemas) of(t reflect.Type, request bool) schema {
	s.Helper()
	if known, ok := identifiers[t]; ok {
		return maps.Clone(known)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem(), request)
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.String:
		if values := s.source(t).consts[t.Name()]; t.PkgPath() != "" && len(values) > 0 {
			return schema{"type": "string", "enum": values}
		}
		return schema{"type": "string"}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return schema{"type": "integer"}
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return schema{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return schema{"type": "number"}
	case reflect.Slice:
		return schema{"type": "array", "items": s.of(t.Elem(), request)}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": s.of(t.Elem(), request)}
	case reflect.Interface:
		return schema{}
	case reflect.Struct:
		return s.object(t, request)
	}
	s.Fatalf("%s has no schema", t)
	return nil
}

// object is the schema of a struct. What is a component is made once; should a request turn out to hold it later, it is
// made again, closed.
func (s *schemas) object(t reflect.Type, request bool) schema {
	s.Helper()
	if t == reflect.TypeFor[anySetting]() {
		return s.anySetting(request)
	}
	if t.Name() == "" {
		made := s.members(t, request)
		return made
	}
	name := componentName(t)
	if was := s.types[name]; was != nil && was != t {
		s.Fatalf("%s and %s have one name", was, t)
	}
	if s.made[name] == nil || request && !s.requests[name] {
		s.types[name], s.requests[name] = t, s.requests[name] || request
		s.made[name] = schema{} // a type may hold itself
		made := s.members(t, s.requests[name])
		if doc := s.source(t).docs[t.Name()]; doc != "" {
			made["description"] = doc
		}
		s.made[name] = made
	}
	return schema{"$ref": "#/components/schemas/" + name}
}

// componentName is the type's name; of one that no other package sees, as it would be spelt if it were exported.
func componentName(t reflect.Type) string {
	name := strings.NewReplacer("[", "Of", "]", "").Replace(t.Name())
	return strings.ToUpper(name[:1]) + name[1:]
}

// members is the schema of a struct's own members, those of what it embeds among them.
func (s *schemas) members(t reflect.Type, request bool) schema {
	s.Helper()
	properties, required := schema{}, []string{}
	s.collect(t, t, request, properties, &required)
	made := schema{"type": "object"}
	if len(properties) > 0 {
		made["properties"] = properties
	}
	if len(required) > 0 {
		slices.Sort(required)
		made["required"] = required
	}
	if request {
		made["additionalProperties"] = false
	}
	return made
}

func (s *schemas) collect(outer, t reflect.Type, request bool, properties schema, required *[]string) {
	s.Helper()
	for i := range t.NumField() {
		f := t.Field(i)
		tag, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && tag == "" {
			s.collect(outer, f.Type, request, properties, required)
			continue
		}
		if tag == "-" || !f.IsExported() {
			continue
		}
		optional := strings.Contains(rest, "omit")
		made := s.of(f.Type, request)
		says, named := members[componentName(t)+"."+tag]
		if !named && t != outer {
			says = members[componentName(outer)+"."+tag]
		}
		if doc := s.source(t).fields[t.Name()][f.Name]; doc != "" {
			made["description"] = doc
		}
		if says["type"] != nil {
			for keyword := range made {
				if keyword != "description" {
					delete(made, keyword)
				}
			}
		}
		maps.Copy(made, says)
		if f.Type.Kind() == reflect.Pointer && !optional && !request && !s.requests[componentName(t)] && made["$ref"] == nil {
			made["type"] = []any{made["type"], "null"}
		}
		properties[tag] = made
		if !optional {
			*required = append(*required, tag)
		}
	}
}

// anySetting is one of the security settings.
func (s *schemas) anySetting(request bool) schema {
	s.Helper()
	var each []schema
	t := reflect.TypeFor[anySetting]()
	for i := range t.NumField() {
		each = append(each, s.of(t.Field(i).Type, request))
	}
	return schema{"anyOf": each}
}
