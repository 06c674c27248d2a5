package policy

import "github.com/fleetpass/fleetpass/core"

// First finds the rule that comes first among those that allow a request, in order of the path and then of their ids: which
// place of the path it is given in, and which one it is. There is one exactly if Decide allows the request. Who walks the
// rules of a path in that order, and takes of each subject the rule that First finds, meets every subject that is allowed
// once, without remembering any.
func First(g *Grants, req *Request) (place int, rule core.RuleID, ok bool) {
	if !req.Entity.Known() || !req.Action.Single() {
		return 0, 0, false
	}
	for j, scope := range req.Path {
		if scope == "" {
			continue
		}
		for i := range req.Subjects {
			kind := kindOf(req.Subjects[i].Kind)
			if kind == 0 {
				continue
			}
			r := g.runs[holding{req.Subjects[i].ID, scope, kind}]
			for _, e := range g.list[r.from:r.to] {
				live := e.expires == 0 || req.Now < e.expires
				if live && permissionsOf(e.role)[req.Entity]&req.Action != 0 && (!ok || e.rule < rule) {
					rule, ok = e.rule, true
				}
			}
		}
		if ok {
			return j, rule, true
		}
	}
	return 0, 0, false
}
