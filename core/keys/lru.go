package keys

import (
	"container/list"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// defaultTenants is how many tenants' keys a ring keeps if it is not told.
const defaultTenants = 1024

// lru keeps the key sets of the tenants used last. The zero lru is empty. The ring's mutex guards it.
type lru struct {
	byTenant map[core.TenantID]*list.Element // of *entry
	order    list.List                       // the tenant used last in front
}

type entry struct {
	tenant core.TenantID
	set    *keyset
	reread time.Time // when an unknown kid last made the ring read again
}

// get returns a tenant's entry, or nil.
func (c *lru) get(t core.TenantID) *entry {
	el := c.byTenant[t]
	if el == nil {
		return nil
	}
	c.order.MoveToFront(el)
	return el.Value.(*entry)
}

// put keeps a tenant's key set, and lets go of those used longest ago beyond max.
func (c *lru) put(t core.TenantID, set *keyset, max int) {
	if e := c.get(t); e != nil {
		e.set = set
		return
	}
	if max <= 0 {
		max = defaultTenants
	}
	if c.byTenant == nil {
		c.byTenant = make(map[core.TenantID]*list.Element)
	}
	for len(c.byTenant) >= max {
		last := c.order.Back()
		delete(c.byTenant, last.Value.(*entry).tenant)
		c.order.Remove(last)
	}
	c.byTenant[t] = c.order.PushFront(&entry{tenant: t, set: set})
}
