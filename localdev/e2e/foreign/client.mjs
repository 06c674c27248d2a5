// Signs in with npm's openid-client: node client.mjs ISSUER REDIRECT_URI
// It prints the authorization URL, reads from standard input the URL that the browser was sent back to, and prints what
// discovery, code + PKCE, verification, userinfo and refresh gave, as one line of JSON.
import { createInterface } from "node:readline";
import { Issuer, generators } from "openid-client";

const [issuerURL, redirectURI] = process.argv.slice(2);
const issuer = await Issuer.discover(issuerURL);
const client = new issuer.Client({
  client_id: "fleetpass-cli",
  redirect_uris: [redirectURI],
  response_types: ["code"],
  token_endpoint_auth_method: "none",
  id_token_signed_response_alg: "ES256",
});
const verifier = generators.codeVerifier();
const nonce = generators.nonce();
const state = generators.state();
console.log(
  client.authorizationUrl({
    scope: "openid email groups offline_access",
    code_challenge: generators.codeChallenge(verifier),
    code_challenge_method: "S256",
    nonce,
    state,
  }),
);
const lines = createInterface({ input: process.stdin });
const { value: back } = await lines[Symbol.asyncIterator]().next();
lines.close();
const tokens = await client.callback(redirectURI, client.callbackParams(back), {
  code_verifier: verifier,
  nonce,
  state,
  response_type: "code",
});
const userinfo = await client.userinfo(tokens);
const refreshed = await client.refresh(tokens);
console.log(
  JSON.stringify({
    claims: tokens.claims(),
    userinfo,
    refreshedSubject: refreshed.claims?.().sub ?? null,
    rotated: refreshed.refresh_token !== tokens.refresh_token,
  }),
);
