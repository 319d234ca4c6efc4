/** A robot's pairing window over a real home and a real list of operators, and laptops that attempt to pair. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { issueCertificate, type SignedCertificate } from '../../../../deploy/shared/cert.ts'
import { pairScalar, toText } from '../../../../deploy/shared/channel/pairing.ts'
import { type Agreed, agree, makeShare } from '../../../../deploy/shared/channel/spake2.ts'
import { generateKey, generateNoiseKey } from '../../../../deploy/shared/keys.ts'
import { OperatorList } from '../../../../runtime/body/orders/operatorlist.ts'
import { Pairing, type PairingParts, type PairMessage } from '../../../../runtime/body/pairing/pairing.ts'
import { respond } from '../../../../runtime/body/pairing/respond.ts'
import type { ReceiptEntry } from '../../../../runtime/body/slot/entries.ts'
import { type Home, openHome } from '../../../../runtime/store/home.ts'
import { loadOperators } from '../../../../runtime/store/operators.ts'
import { certificateOf } from '../../../fixtures/cards.ts'

export interface Person {
  card: SignedCertificate
  fingerprint: string
  noiseSecret: Uint8Array
}

export async function makePerson(folder: string, name: string): Promise<Person> {
  const signer = await generateKey(join(folder, `${name}-${randomBytes(4).toString('hex')}`), name)
  const noise = generateNoiseKey()
  const card = await issueCertificate(certificateOf('operator', name, signer, noise.public), signer)
  return { card, fingerprint: signer.fingerprint, noiseSecret: noise.secret }
}

export class PairingBed {
  readonly folder: string
  readonly home: Home
  readonly operators: OperatorList
  readonly pairing: Pairing
  readonly receipts: ReceiptEntry[]
  /** Lines of the runtime's log. */
  readonly said: string[]
  /** Attempts for which the robot has computed its half. */
  computed = 0

  private constructor(
    folder: string,
    home: Home,
    operators: OperatorList,
    about: Pick<PairingBed, 'receipts' | 'said'>,
    more: Partial<PairingParts>,
  ) {
    this.folder = folder
    this.home = home
    this.operators = operators
    this.receipts = about.receipts
    this.said = about.said
    const say = (text: string) => void about.said.push(text)
    this.pairing = new Pairing({
      home,
      operators,
      responder: {
        prepare: () => {},
        respond: async (request) => {
          this.computed++
          return respond(request)
        },
        close: async () => {},
      },
      files: [],
      report: { info: say, warn: say },
      ...more,
    })
  }

  static async make(more: Partial<PairingParts> = {}): Promise<PairingBed> {
    const folder = mkdtempSync(join(tmpdir(), 'medulla-pairing-'))
    const home = await openHome(join(folder, 'home'), { name: 'arm' })
    const receipts: ReceiptEntry[] = []
    const record = async (entry: ReceiptEntry) => receipts.push(entry)
    const operators = new OperatorList(home, await loadOperators(home), record)
    return new PairingBed(folder, home, operators, { receipts, said: [] }, more)
  }

  /** The code that the log shows. */
  get code(): string {
    const shown = this.said.findLast((line) => line.startsWith('pairing code of'))
    const [, first = '', second = ''] = /^pairing code of arm: (\d{4}) (\d{4});/.exec(shown ?? '') ?? []
    return first + second
  }

  /** 8 digits that are not the code. */
  get wrongCode(): string {
    return String((Number(this.code) + 1) % 10 ** 8).padStart(8, '0')
  }

  person(name: string): Promise<Person> {
    return makePerson(this.folder, name)
  }

  /** What an endpoint sends to the body. */
  answer<T>(message: object): Promise<T> {
    return this.pairing.answer({ id: 1, ...message } as PairMessage) as Promise<T>
  }

  /** The part of an attempt before the laptop confirms. `told`: the card that the endpoint passes on, if it lies. */
  async begin(who: Person, code: string, told: SignedCertificate = who.card): Promise<Attempt> {
    const hash = randomBytes(32)
    const w = pairScalar(code)
    const own = makeShare('A', w)
    const { attempt, share } = await this.answer<{ attempt: number; share: string }>({
      op: 'pair-share',
      card: JSON.stringify(told),
      hash: toText(hash),
      share: toText(own.bytes),
    })
    const [idA, idB] = [Buffer.from(who.card.cert), Buffer.from(this.home.card.cert)]
    const agreed = agree({ side: 'A', w, own, theirs: Buffer.from(share, 'base64'), idA, idB, aad: hash })
    return { attempt, agreed, hash }
  }

  confirm({ attempt, agreed }: Attempt): Promise<{ confirm: string; answer: string }> {
    return this.answer({ op: 'pair-confirm', attempt, confirm: toText(agreed.confirmA) })
  }

  async pair(who: Person, code = this.code) {
    return this.confirm(await this.begin(who, code))
  }

  async close(): Promise<void> {
    await this.pairing.close()
    await this.home.close()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

export interface Attempt {
  attempt: number
  agreed: Agreed
  hash: Uint8Array
}
