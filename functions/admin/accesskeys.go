package admin

import (
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/store"
)

// accessKeyPaths are the nouns that a person's own access keys are served under: the newer one, and the one before.
var accessKeyPaths = []string{"/access-keys", "/user-applications"}

// allAccessKeys is where administrators find everybody's.
const allAccessKeys = "/administration/access-keys"

var errByKey = fmt.Errorf("needs a person who is signed in: what an access key opens must not be able to make, change or delete access keys, nor passwords: %w", core.Denied)

// bySignIn refuses what a token may not do that was made with an access key. Somebody who came by the token, or by the key,
// must not be able to stay for longer than the key's owner allows.
func (c *call) bySignIn() error {
	if c.key != "" {
		return errByKey
	}
	return nil
}

// notOneselfByKey refuses to an access key what would hand it its owner's own password.
func (c *call) notOneselfByKey(u directory.User) error {
	if u.ID != c.user.ID {
		return nil
	}
	return c.bySignIn()
}

func createAccessKey(c *call) (reply, error) {
	req, err := decode[api.AccessKeyRequest](c)
	if err != nil {
		return failed(err)
	}
	var life time.Duration
	if req.ExpiresIn != nil {
		if life, err = seconds("expiresIn", *req.ExpiresIn, directory.MinKeyLife, directory.MaxKeyLife); err != nil {
			return failed(err)
		}
	}
	k, secret, err := c.Directory.CreateAccessKey(c.ctx, c.actor, c.tenant, c.user, req.Name, life)
	if err != nil {
		return failed(err)
	}
	return created(withKeySecret(k, secret))
}

// seconds is a number of seconds within bounds.
func seconds(field string, n int64, least, most time.Duration) (time.Duration, error) {
	if n < int64(least/time.Second) || n > int64(most/time.Second) {
		return 0, core.BadField(field, fmt.Sprintf("must be from %d to %d seconds", least/time.Second, most/time.Second))
	}
	return time.Duration(n) * time.Second, nil
}

// accessKeyTable is what lists of access keys can be filtered and sorted by.
var accessKeyTable = table[directory.AccessKey]{
	name: "access-keys", natural: "id", keyed: true,
	fields: []field[directory.AccessKey]{
		textField("id", func(k directory.AccessKey) string { return string(k.ID) }),
		textField("name", func(k directory.AccessKey) string { return k.Name }).search(),
		textField("owner", func(k directory.AccessKey) string { return string(k.Email) }).search(),
		boolField("enabled", func(k directory.AccessKey) bool { return k.Enabled }),
		timeField("createdAt", func(k directory.AccessKey) time.Time { return k.CreatedAt }).also("creationTime"),
		timeField("updatedAt", func(k directory.AccessKey) time.Time { return k.UpdatedAt }).also("lastUpdated"),
		timeField("expiresAt", func(k directory.AccessKey) time.Time { return k.ExpiresAt }),
		timeField("lastUsed", func(k directory.AccessKey) time.Time { return k.LastUsed }),
	},
}

// listAccessKeys lists the caller's own, in the order in which they were made.
func listAccessKeys(c *call) (reply, error) {
	own := accessKeyTable
	own.name, own.natural, own.keyed = "own-access-keys", "createdAt", false
	l, err := readListing(c, own)
	if err != nil {
		return failed(err)
	}
	keys, err := c.Directory.AccessKeysOf(c.ctx, c.tenant, c.user.ID)
	if err != nil {
		return failed(err)
	}
	found, err := l.page(inMemory(keys, func(k directory.AccessKey) string {
		return fmt.Sprintf("%020d-%s", k.CreatedAt.UnixNano(), k.ID)
	}))
	if err != nil {
		return failed(err)
	}
	return answer(found, wireAccessKey)
}

func listAllAccessKeys(c *call) (reply, error) {
	return listOf(c, accessKeyTable, store.AccessKeys(c.tenant), wireAccessKey)
}

func getAccessKey(c *call) (reply, error) {
	k, err := c.ownAccessKey()
	if err != nil {
		return failed(err)
	}
	return ok(wireAccessKey(k.Value))
}

func patchAccessKey(c *call) (reply, error) {
	req, err := decode[api.AccessKeyPatch](c)
	if err != nil {
		return failed(err)
	}
	if req.Enabled == nil {
		return failed(core.BadField("enabled", "is missing: it is all that can be changed"))
	}
	k, err := c.ownAccessKey()
	if err != nil {
		return failed(err)
	}
	changed, err := c.Directory.EnableAccessKey(c.ctx, c.actor, c.tenant, k.Value.ID, *req.Enabled)
	if err != nil {
		return failed(err)
	}
	return ok(wireAccessKey(changed))
}

// rotateAccessKey ends the secrets of before at once, unless the caller names a grace.
func rotateAccessKey(c *call) (reply, error) {
	var grace time.Duration
	if len(c.body) > 0 {
		req, err := decode[api.SecretRequest](c)
		if err != nil {
			return failed(err)
		}
		if grace, err = seconds("gracePeriod", req.GracePeriod, 0, directory.MaxGrace); err != nil {
			return failed(err)
		}
	}
	k, err := c.ownAccessKey()
	if err != nil {
		return failed(err)
	}
	changed, secret, err := c.Directory.RotateAccessKey(c.ctx, c.actor, c.tenant, k.Value.ID, grace)
	if err != nil {
		return failed(err)
	}
	return ok(withKeySecret(changed, secret))
}

func deleteAccessKey(c *call) (reply, error) {
	k, err := c.ownAccessKey()
	if err != nil {
		return failed(err)
	}
	if err := c.Directory.DeleteAccessKey(c.ctx, c.actor, c.tenant, k.Value.ID); err != nil {
		return failed(err)
	}
	return noContent()
}

// deleteAnyAccessKey takes a key away from whoever has it, if they hold nothing that the caller does not, as when a person is
// deleted: so nobody can lock out those above them.
func deleteAnyAccessKey(c *call) (reply, error) {
	if err := c.bySignIn(); err != nil {
		return failed(err)
	}
	k, err := c.accessKey()
	if err != nil {
		return failed(err)
	}
	rec, err := c.Directory.User(c.ctx, c.tenant, k.Value.Email)
	if err != nil {
		return failed(err)
	}
	if err := c.outranksPerson(rec.Value, access.Now); err != nil {
		return failed(err)
	}
	if err := c.Directory.DeleteAccessKey(c.ctx, c.actor, c.tenant, k.Value.ID); err != nil {
		return failed(err)
	}
	return noContent()
}

// outranksPerson is outranks for a person and all their groups.
func (c *call) outranksPerson(u directory.User, term access.Term) error {
	for _, g := range u.AllGroups() {
		if err := c.outranks(core.GroupSubject(g), term); err != nil {
			return err
		}
	}
	return c.outranks(core.UserSubject(u.Email), term)
}

// accessKey is the access key {id}.
func (c *call) accessKey() (store.Record[directory.AccessKey], error) {
	id, err := c.id("access key")
	if err != nil {
		return store.Record[directory.AccessKey]{}, err
	}
	return c.Directory.AccessKey(c.ctx, c.tenant, core.ApplicationID(id))
}

// ownAccessKey is the access key {id} of the caller. Somebody else's is not there.
func (c *call) ownAccessKey() (store.Record[directory.AccessKey], error) {
	k, err := c.accessKey()
	if err == nil && k.Value.Owner != c.user.ID {
		return store.Record[directory.AccessKey]{}, fmt.Errorf("access-key: %w", core.NotFound)
	}
	return k, err
}

func ownAccessKeyObject(c *call) (object, error) { return stored(c.ownAccessKey()) }
func accessKeyObject(c *call) (object, error)    { return stored(c.accessKey()) }

func wireAccessKey(k directory.AccessKey) api.AccessKey {
	return api.AccessKey{
		ID: k.ID, Name: k.Name, ClientID: k.ID, Enabled: k.Enabled, Owner: k.Email,
		CreatedAt: k.CreatedAt, UpdatedAt: k.UpdatedAt, ExpiresAt: k.ExpiresAt, LastUsed: k.LastUsed,
	}
}

// withKeySecret is an access key with the secret that is shown this once.
func withKeySecret(k directory.AccessKey, secret string) api.AccessKey {
	w := wireAccessKey(k)
	w.ClientSecret = secret
	return w
}
