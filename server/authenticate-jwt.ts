import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import jwt, { type FastifyJWTOptions } from '@fastify/jwt'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { User } from 'fastify-agent-events'
import { ConfigError, type Config } from './config.js'

/** An unknown key makes us look at the file again, but not more often than this. */
const REREAD_MS = 10_000

export interface JwtAuthentication {
  /** The user of the bearer token in the Authorization header; never of one in the query, which ends up in logs. */
  authenticate (request: FastifyRequest): Promise<User | null>
  /** The user of a token that came in band. */
  refresh (token: string): Promise<User | null>
}

/**
 * AUTH=jwt: whoever has a token is who it says.
 *
 * @throws ConfigError when not exactly one key is given, or it cannot be read
 */
export async function jwtAuthentication (app: FastifyInstance, config: Config): Promise<JwtAuthentication> {
  const keys = await readKeys(config)
  await app.register(jwt, {
    // Only to check: nothing here signs. Of a JWKS file each token's own key is given below.
    secret: keys.secret,
    verify: {
      errorCacheTTL: 0,
      // What must fit must be there.
      requiredClaims: [...(config.JWT_ISSUER === undefined ? [] : ['iss']), ...(config.JWT_AUDIENCE === undefined ? [] : ['aud'])],
      ...(config.JWT_ISSUER !== undefined && { allowedIss: config.JWT_ISSUER }),
      ...(config.JWT_AUDIENCE !== undefined && { allowedAud: config.JWT_AUDIENCE })
    }
  })

  async function userOf (token: string): Promise<User | null> {
    let claims: Record<string, unknown>
    try {
      const key = keys.find === undefined ? undefined : await keys.find(kidOf(app, token))
      if (keys.find !== undefined && key === undefined) return null
      claims = app.jwt.verify<Record<string, unknown>>(token, key === undefined ? undefined : { key })
    } catch (error) {
      // Only the code: whatever else an error holds may be of the token.
      app.log.info({ code: (error as { code?: string }).code }, 'token refused')
      return null
    }
    return toUser(claims, config.JWT_USER_CLAIM)
  }

  return {
    async authenticate (request) {
      const { authorization } = request.headers
      const token = /^Bearer ([^ ]+)$/i.exec(authorization ?? '')?.[1]
      return token === undefined ? null : userOf(token)
    },
    refresh: userOf
  }
}

function toUser (claims: Record<string, unknown>, claim: string): User | null {
  const userId = claims[claim]
  if (typeof userId !== 'string' || userId === '') return null
  const { exp } = claims
  return typeof exp === 'number' ? { userId, expiresAt: exp * 1_000 } : { userId }
}

interface Keys {
  readonly secret: FastifyJWTOptions['secret']
  /** Where each token names its key. */
  find? (kid: string | undefined): Promise<string | undefined>
}

async function readKeys ({ JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS }: Config): Promise<Keys> {
  if ([JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS].filter((given) => given !== undefined).length !== 1) {
    throw new ConfigError('AUTH=jwt needs exactly one of JWT_SECRET, JWT_PUBLIC_KEY (PEM, or a path to it) and JWT_JWKS (a path to a JWKS file)')
  }
  if (JWT_SECRET !== undefined) return { secret: JWT_SECRET }
  if (JWT_PUBLIC_KEY !== undefined) return { secret: { public: await readPublicKey(JWT_PUBLIC_KEY) } as FastifyJWTOptions['secret'] }
  return jwksKeys(JWT_JWKS!)
}

async function readPublicKey (given: string): Promise<string> {
  const isPem = given.includes('-----BEGIN')
  // In an environment file a PEM has its line breaks as \n.
  const pem = isPem ? given.replaceAll('\\n', '\n') : await readSetting('JWT_PUBLIC_KEY', given)
  if (pem.includes('PRIVATE KEY')) throw new ConfigError('JWT_PUBLIC_KEY is a private key: this server only checks tokens and must not be able to make them')
  try {
    return createPublicKey(pem).export({ type: 'spki', format: 'pem' }) as string
  } catch (error) {
    throw new ConfigError(`JWT_PUBLIC_KEY is not a public key in PEM: ${(error as Error).message}`)
  }
}

async function jwksKeys (path: string): Promise<Keys> {
  let byKid = await readJwks(path)
  let readAt = Date.now()
  return {
    secret: { public: async () => { throw new Error('no token is checked without a key of its own') } } as unknown as FastifyJWTOptions['secret'],
    async find (kid) {
      if (kid !== undefined && !byKid.has(kid) && Date.now() - readAt >= REREAD_MS) {
        readAt = Date.now()
        // A file that is being replaced may be half written: the keys that were known stay.
        byKid = await readJwks(path).catch(() => byKid)
      }
      // A token without a kid is the only key's.
      return kid === undefined && byKid.size === 1 ? [...byKid.values()][0] : byKid.get(kid ?? '')
    }
  }
}

async function readJwks (path: string): Promise<Map<string, string>> {
  const text = await readSetting('JWT_JWKS', path)
  try {
    const { keys } = JSON.parse(text) as { keys: Array<JsonWebKey & { kid?: string, use?: string }> }
    const byKid = new Map<string, string>()
    for (const key of keys) {
      if (key.use !== undefined && key.use !== 'sig') continue
      if (key.kty === 'oct') throw new Error('it holds a symmetric key; use JWT_SECRET for one')
      if (key.d !== undefined) throw new Error('it holds a private key, which this server must not have')
      byKid.set(key.kid ?? '', createPublicKey({ key, format: 'jwk' }).export({ type: 'spki', format: 'pem' }) as string)
    }
    if (byKid.size === 0) throw new Error('it holds no key for signatures')
    return byKid
  } catch (error) {
    throw new ConfigError(`JWT_JWKS ${path} is not a JWKS file: ${(error as Error).message}`)
  }
}

async function readSetting (variable: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new ConfigError(`${variable} ${path} cannot be read: ${(error as Error).message}`)
  }
}

function kidOf (app: FastifyInstance, token: string): string | undefined {
  const kid = app.jwt.decode<{ header: { kid?: unknown } }>(token, { complete: true })?.header.kid
  return typeof kid === 'string' ? kid : undefined
}
