import type { Command } from 'commander'
import { type App, example, type Runner } from '../app.ts'
import { makeKey } from '../makekey.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Makes an ed25519 key in OpenSSH format, without a passphrase, and uses it from now on.\n' +
        'You do not need it if you want to sign with ~/.ssh/id_ed25519. An existing key is never replaced.',
    )
    .option('-C, --comment <text>', 'comment of the public key', 'medulla')
    .addHelpText('after', example('medulla keygen'))
    .action((options: { comment: string }) => run(() => keygen(app, options.comment)))
}

async function keygen(app: App, comment: string): Promise<number> {
  const { path, signer } = await makeKey(app.dir, comment)
  app.term.event({ event: 'key', path, publicKey: signer.publicKey, fingerprint: signer.fingerprint })
  app.term.line(`made ${path}`)
  app.term.line(signer.fingerprint)
  app.term.next('medulla sim')
  return 0
}
