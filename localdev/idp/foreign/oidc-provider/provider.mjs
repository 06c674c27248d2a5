// npm's oidc-provider as an identity provider that knows a few people: node provider.mjs SETTINGS.json PORT

import { readFile } from 'node:fs/promises';
import { exportJWK, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';

const [, , file, port] = process.argv;
const settings = async () => JSON.parse(await readFile(file, 'utf8')); // read anew each time: what is known of people changes

const { base, registration, cookies } = await settings();

async function signingKey(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, use: 'sig' };
}

const provider = new Provider(base, {
  jwks: { keys: [await signingKey('RS256'), await signingKey('ES256')] },
  cookies: { keys: [cookies] },
  scopes: ['openid', 'offline_access', 'profile', 'email', 'groups'],
  claims: {
    openid: ['sub'],
    profile: ['given_name', 'family_name'],
    email: ['email', 'email_verified'],
    groups: ['groups', 'uid', 'gid', 'supplementary_groups'],
  },
  clockTolerance: 300, // tests put their own clock forward
  conformIdTokenClaims: false, // the claims of the scopes stand in the ID token too, as with most providers
  features: {
    devInteractions: { enabled: true }, // takes any password
    registration: { enabled: true, initialAccessToken: registration },
    rpInitiatedLogout: { enabled: true },
  },
  async findAccount(_, login) {
    const person = (await settings()).people.find((p) => p.login === login);
    return person && {
      accountId: login,
      claims: () => ({
        sub: login,
        email: person.email,
        email_verified: true,
        given_name: person.firstName,
        family_name: person.lastName,
        groups: person.groups ?? [],
        uid: person.uid,
        gid: person.gid,
        supplementary_groups: person.supplementaryGroups ?? [],
      }),
    };
  },
});
provider.proxy = true; // there is one before us that speaks TLS
provider.listen(Number(port), '127.0.0.1');
