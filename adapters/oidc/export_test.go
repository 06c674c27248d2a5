package oidc

// ParseKeys reads a key set, and says how many of its keys are taken.
func (p *Provider) ParseKeys(document []byte) int {
	keys, err := parseKeys(document)
	if err != nil {
		return 0
	}
	return len(keys)
}
