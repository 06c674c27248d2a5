package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// etag is the object's entity tag (RFC 9110 §8.8.3), always a strong one.
func (o object) etag() string {
	if o.tag != "" {
		return `"` + o.tag + `"`
	}
	return `"` + strconv.FormatUint(uint64(o.version), 36) + `"`
}

// conditions are the preconditions of a request (RFC 9110 §13.1): lists of tags, nil where the header is absent.
type conditions struct{ match, noneMatch []string }

// readConditions reads If-Match and If-None-Match. A call that is about no object that can change refuses them: a
// precondition that is passed over is worse than none.
func readConditions(r *http.Request, e endpoint) (cond conditions, err error) {
	if cond.match, err = tags(r, "If-Match"); err != nil {
		return cond, err
	}
	if cond.noneMatch, err = tags(r, "If-None-Match"); err != nil {
		return cond, err
	}
	get := e.method == http.MethodGet
	switch {
	case !get && cond.noneMatch != nil:
		return cond, core.BadField("If-None-Match", "is for reading; to change only what you have seen, send If-Match")
	case r.Header.Get("If-Unmodified-Since") != "":
		return cond, core.BadField("If-Unmodified-Since", "is not understood, since a second is too long; send If-Match with an ETag")
	case cond.match != nil && e.object == nil:
		return cond, core.BadField("If-Match", "is of no use here: the path names nothing that can change")
	case cond.noneMatch != nil && e.object == nil:
		cond.noneMatch = nil // it only ever saves an answer
	}
	return cond, nil
}

// maxTags bounds a precondition, in tags.
const maxTags = 20

// tags reads a list of entity tags, or "*".
func tags(r *http.Request, header string) ([]string, error) {
	values := r.Header.Values(header)
	if len(values) == 0 {
		return nil, nil
	}
	list := strings.Split(strings.Join(values, ","), ",")
	if len(list) > maxTags {
		return nil, core.BadField(header, fmt.Sprintf("must be at most %d entity tags", maxTags))
	}
	for i, t := range list {
		t = strings.TrimSpace(t)
		list[i] = t
		bare := strings.TrimPrefix(t, "W/")
		if t == "*" && len(list) == 1 {
			continue
		}
		if len(bare) < 2 || len(bare) > 100 || bare[0] != '"' || bare[len(bare)-1] != '"' || strings.Contains(bare[1:len(bare)-1], `"`) {
			return nil, core.BadField(header, `must be the ETag of an earlier answer, with its quotes, or *`)
		}
	}
	return list, nil
}

// among says whether a list names the object's tag. If-Match compares strongly, so a weak tag never does.
func among(list []string, o object, weak bool) bool {
	return slices.ContainsFunc(list, func(t string) bool {
		if weak {
			t = strings.TrimPrefix(t, "W/")
		}
		return t == "*" || t == o.etag()
	})
}

var errOutdated = fmt.Errorf("the object was changed since it was read: read it again, and send the ETag of that answer: %w", core.Outdated)

var errBusy = fmt.Errorf("too much changes at once for this to be written: send it again in a moment: %w", core.Conflict)

// maxTries bounds how often a call under a precondition is begun again because something beside the object changed.
const maxTries = 8

// conditionally runs the call under the request's preconditions. If-Match becomes part of the commits that the handler
// makes, so nothing can come between the comparison and the change. Where several objects share an item, a change of the
// others makes the commit fail too: as long as this object's own tag is the same, the call is simply made again.
func (c *call) conditionally(e endpoint, cond conditions) (reply, error) {
	base := c.ctx
	for n := 1; ; n++ {
		o, err := e.object(c)
		if err != nil {
			return reply{}, err
		}
		if cond.match != nil {
			if !among(cond.match, o, false) {
				return reply{}, errOutdated
			}
			c.ctx = store.Matching(base, o.key, o.version)
		}
		if among(cond.noneMatch, o, true) {
			c.w.Header().Set("ETag", o.etag())
			return reply{status: http.StatusNotModified}, nil
		}
		rep, err := e.do(c)
		c.ctx = base
		if errors.Is(err, core.Outdated) && o.tag != "" {
			if n < maxTries {
				continue
			}
			err = errBusy
		}
		if err == nil && e.method == http.MethodGet {
			// The tag was read before what is shown, so it is never newer than that: at worst the caller has to read again.
			c.w.Header().Set("ETag", o.etag())
		}
		return rep, err
	}
}

func ruleObject(c *call) (object, error) {
	rule, err := c.rule(policy.View)
	if err != nil {
		return object{}, err
	}
	k := store.Rule(c.tenant, rule.ID)
	items, err := c.DB.Get(c.ctx, k)
	if err != nil {
		return object{}, err
	}
	if items[0].Version == 0 {
		return object{}, fmt.Errorf("access rule {id}: %w", core.NotFound)
	}
	return object{key: k, version: items[0].Version}, nil
}

func scopeObject(c *call) (object, error) {
	rec, err := c.Org.Scope(c.ctx, c.tenant, c.scope.ID)
	if err == nil {
		c.scope = rec.Value // as the tag has it, and no older
	}
	return stored(rec, err)
}

func userObject(c *call) (object, error) {
	id, err := c.id("user")
	if err != nil {
		return object{}, err
	}
	return stored(c.Directory.UserByID(c.ctx, c.tenant, core.UserID(id)))
}

func applicationObject(c *call) (object, error) {
	id, err := c.id("application")
	if err != nil {
		return object{}, err
	}
	return stored(c.Directory.Application(c.ctx, c.tenant, core.ApplicationID(id)))
}

func idpObject(c *call) (object, error) {
	alias, err := c.alias()
	if err != nil {
		return object{}, err
	}
	return stored(c.SSO.Connection(c.ctx, c.tenant, alias))
}

func tenantObject(c *call) (object, error) {
	id, err := core.ParseTenantID("{id}", c.r.PathValue("id"))
	if err != nil {
		return object{}, fmt.Errorf("tenant {id}: %w", core.NotFound)
	}
	return stored(entries.Get(c.ctx, c.DB, store.TenantEntry(id)))
}

// stored is the object of a record.
func stored[T any](rec store.Record[T], err error) (object, error) {
	return object{key: rec.Key, version: rec.Version}, err
}

// settingsObject and securityObject share the tenant's item, which every change of access rules writes too: their tags are
// of what they show.
func settingsObject(c *call) (object, error) {
	return c.ofTenant(func(s org.Settings) any { return wireSettings(s) })
}

func securityObject(c *call) (object, error) {
	if key := c.r.PathValue("key"); key != "" {
		s, err := c.setting()
		if err != nil {
			return object{}, err
		}
		return c.ofTenant(func(set org.Settings) any { return s.read(wireSecurity(set)) })
	}
	return c.ofTenant(func(s org.Settings) any { return wireSecurity(s) })
}

func (c *call) ofTenant(shown func(org.Settings) any) (object, error) {
	rec, err := c.Org.Tenant(c.ctx, c.tenant)
	if err != nil {
		return object{}, err
	}
	body, err := json.Marshal(shown(rec.Value.Settings), json.Deterministic(true))
	if err != nil {
		return object{}, err
	}
	c.meta = rec.Value // as the tag has it, and no older
	sum := sha256.Sum256(body)
	return object{key: rec.Key, version: rec.Version, tag: base64.RawURLEncoding.EncodeToString(sum[:18])}, nil
}
