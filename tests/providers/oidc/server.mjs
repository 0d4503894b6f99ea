// Runs oidc-provider over https, below a path as Okta's authorization servers are. Started by provider.py.
//
// Arguments: folder that oidc-provider is installed in, files of the certificate and of its key. Prints its port, then
// serves: each line of standard input is a configuration, answered by a line when it is in force; the end of input ends
// it. A configuration is
//   {"clients": [...],                  as oidc-provider takes them
//    "keys": [{"kid", "alg"}],          what is published; the first of its alg signs. Made once for each kid
//    "scopes": [...],                   which there are
//    "resources": [...],                audiences that may be asked for
//    "audience": "...",                 of tokens for which none is asked; absent: they are opaque
//    "alg": "RS256", "seconds": 600}    of tokens

import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [installed, certFile, keyFile] = process.argv.slice(2);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
// It warns of what would be wrong in production; standard output is for answers alone.
console.info = console.warn = console.log = () => {};

const library = pathToFileURL(join(installed, 'node_modules/oidc-provider/lib/index.js'));
const { Provider, errors } = await import(library.href);

// Stands for what a client gets that asks for nothing; its audience may be any word.
const DEFAULT_RESOURCE = 'urn:trainyard:default';
const PATH = '/oauth2/default';
const made = new Map();

function key({ kid, alg }) {
  if (!made.has(kid)) {
    const { privateKey } = alg.startsWith('ES')
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : generateKeyPairSync('rsa', { modulusLength: 2048 });
    made.set(kid, { ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' });
  }
  return made.get(kid);
}

function providerOf(issuer, given) {
  const scope = given.scopes.join(' ');
  const provider = new Provider(issuer, {
    clients: given.clients.map((client) => ({
      grant_types: ['client_credentials'], redirect_uris: [], response_types: [], scope, ...client,
    })),
    jwks: { keys: given.keys.map(key) },
    scopes: given.scopes,
    clientAuthMethods: given.methods ?? ['client_secret_basic', 'private_key_jwt'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => (given.audience ? DEFAULT_RESOURCE : []),
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => {
          if (resource !== DEFAULT_RESOURCE && !given.resources.includes(resource)) {
            throw new errors.InvalidTarget();
          }
          return {
            scope,
            audience: resource === DEFAULT_RESOURCE ? given.audience : resource,
            accessTokenTTL: given.seconds,
            accessTokenFormat: 'jwt',
            jwt: { sign: { alg: given.alg } },
          };
        },
      },
    },
  });
  return provider.callback();
}

let serve = (request, response) => response.writeHead(503).end();
const server = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, (request, response) => {
  if (!request.url.startsWith(`${PATH}/`)) {
    response.writeHead(404).end();
    return;
  }
  request.originalUrl = request.url;
  request.url = request.url.slice(PATH.length);
  serve(request, response);
});
await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
const issuer = `https://localhost:${server.address().port}${PATH}`;
say(issuer);
for await (const line of createInterface({ input: process.stdin })) {
  serve = providerOf(issuer, JSON.parse(line));
  say('in force');
}
process.exit(0);
