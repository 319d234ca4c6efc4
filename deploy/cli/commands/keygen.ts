import { join, relative } from 'node:path'
import type { Command } from 'commander'
import { type App, example, type Runner } from '../app.ts'
import { readSettings, writeSettings } from '../config.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Makes an ed25519 key in OpenSSH format, without a passphrase, and uses it from now on.\n' +
        'Not needed when ~/.ssh/id_ed25519 is there and you want to sign with that; an existing key is never replaced.',
    )
    .option('-C, --comment <text>', 'comment of the public key', 'medulla')
    .addHelpText('after', example('medulla keygen'))
    .action((options: { comment: string }) => run(() => keygen(app, options.comment)))
}

async function keygen(app: App, comment: string): Promise<number> {
  const { generateKey } = await import('../../keys.ts')
  const path = join(app.dir, 'id_ed25519')
  const signer = await generateKey(path, comment)
  await writeSettings(app.dir, { ...readSettings(app.dir), key: relative(app.dir, path) })
  app.term.event({ event: 'key', path, publicKey: signer.publicKey, fingerprint: signer.fingerprint })
  app.term.line(`made ${path}`)
  app.term.line(signer.fingerprint)
  return 0
}
