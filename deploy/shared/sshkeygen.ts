/**
 * Signs with a key that this process never reads: a key in an ssh agent, or an encrypted key that ssh-keygen unlocks
 * (BUNDLE 2.6).
 */
import { spawn } from 'node:child_process'
import { isTokenKey, verify } from './bundle/sshsig.ts'
import { Refusal } from './errors.ts'

const MAX_OUTPUT = 16 * 1024

/**
 * ssh-keygen can use the terminal and the agent for a passphrase, a PIN or a touch. Its arguments are only paths and the
 * namespace.
 */
export async function signWithSshKeygen(
  path: string,
  publicKey: string,
  namespace: string,
  message: Uint8Array,
): Promise<string> {
  // ssh-keygen itself tells the person to touch the token, on this terminal.
  const touched = isTokenKey(publicKey)
  const child = spawn('ssh-keygen', ['-Y', 'sign', '-n', namespace, '-f', path], {
    stdio: ['pipe', 'pipe', touched ? 'inherit' : 'pipe'],
  })
  const [out, err]: [string[], string[]] = [[], []]
  let size = 0
  const collect = (into: string[]) => (part: Buffer) => {
    size += part.length
    if (size > MAX_OUTPUT) child.kill()
    else into.push(part.toString('latin1'))
  }
  child.stdout?.on('data', collect(out))
  child.stderr?.on('data', collect(err))
  child.stdin?.on('error', () => {}) // ssh-keygen may end without reading; its exit code says why
  child.stdin?.end(message)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', (cause) => {
      const hint = 'install OpenSSH, or use a key without a passphrase: medulla keygen'
      reject(new Refusal('no-key', `cannot run ssh-keygen, which ${path} needs`, hint, { cause }))
    })
    child.on('close', resolve)
  })
  const lastLine = err.join('').trim().split('\n').at(-1) ?? ''
  if (code !== 0 && /passphrase/i.test(lastLine)) {
    throw new Refusal(
      'passphrase',
      `ssh-keygen: ${lastLine}`,
      'type the right passphrase, or add the key to an agent: ssh-add',
    )
  }
  if (code !== 0)
    throw new Refusal(
      'no-key',
      `ssh-keygen: ${lastLine || `ended with ${code}`}`,
      touched
        ? `plug in the security key of ${path}, and touch it when ssh-keygen asks`
        : `check that ${path} is in your agent: ssh-add -l`,
    )
  const armored = out.join('')
  // an agent may sign with another key, or an ssh-keygen write another form: refuse that here, not on the robot
  if (verify(armored, namespace, message).publicKey !== publicKey) {
    throw new Refusal('no-key', `ssh-keygen signed with another key than ${path}`)
  }
  return armored
}
