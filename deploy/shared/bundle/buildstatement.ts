/**
 * Statements of builders: each says that building the source of a program gives the files with this tree hash (BUNDLE 17).
 */
import { Refusal } from '../errors.ts'
import { NAME_PATTERN } from '../names.ts'
import { LIMITS } from './limits.ts'
import { VERSION_PATTERN } from './release.ts'
import { toBase64, verifyBase64 } from './sshsig.ts'
import { encodeJson, readJson } from './strict.ts'

export interface BuildStatement {
  program: string
  version: string
  /** tree hash of the payload's files */
  h1: string
}

/** `statement` is the exact text that was signed; `sig` is a base64 SSHSIG blob, namespace `build@medulla`. */
export interface SignedBuild {
  statement: string
  sig: string
}

const FORMAT = 'medulla-build/1'
const NAMESPACE = 'build@medulla'
const H1 = /^h1:[A-Za-z0-9+/]{43}=$/

interface BuildSigner {
  sign(namespace: string, message: Uint8Array): Promise<string>
}

export async function signBuild({ program, version, h1 }: BuildStatement, signer: BuildSigner): Promise<SignedBuild> {
  const bytes = encodeJson({ format: FORMAT, program, version, h1 })
  return { statement: Buffer.from(bytes).toString(), sig: toBase64(await signer.sign(NAMESPACE, bytes)) }
}

/** The statement and the key that signed it; throws Refusal. Whether to trust the builder is up to the caller. */
export function verifyBuild({
  statement,
  sig,
}: SignedBuild): BuildStatement & { builder: string; fingerprint: string } {
  const bytes = Buffer.from(statement)
  if (bytes.length > LIMITS.buildStatement) {
    throw new Refusal('too-large', `build statement: more than ${LIMITS.buildStatement} bytes`)
  }
  // the signature before the text is interpreted (BUNDLE 1.1)
  const { publicKey: builder, fingerprint } = verifyBase64(sig, NAMESPACE, bytes)
  const read = readJson(bytes, 'build statement', FORMAT, LIMITS.buildStatement)
  read.keys(['format', 'program', 'version', 'h1'])
  return {
    program: read.text('program', NAME_PATTERN, 64),
    version: read.text('version', VERSION_PATTERN, LIMITS.text),
    h1: read.text('h1', H1, 47),
    builder,
    fingerprint,
  }
}
