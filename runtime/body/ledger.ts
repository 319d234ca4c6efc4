/** The robot's receipts: within the limits of receiptlimit.ts, and each saying whether programs are confined. */
import type { Receipt } from '../../deploy/shared/api.ts'
import { timeScale } from '../../deploy/shared/timescale.ts'
import { createLog } from '../log.ts'
import type { Receipts } from '../store/receipts.ts'
import { ReceiptLimit } from './orders/receiptlimit.ts'
import type { Ledger } from './slot/context.ts'
import type { ReceiptEntry } from './slot/entries.ts'

export class RobotLedger implements Ledger {
  readonly #receipts: Receipts
  readonly #confined: boolean
  readonly #limit: ReceiptLimit
  readonly #report = createLog('body')

  /** `known`: whether the robot knows the operator with this fingerprint. */
  constructor(receipts: Receipts, confined: boolean, known: (fingerprint: string) => boolean) {
    this.#receipts = receipts
    this.#confined = confined
    this.#limit = new ReceiptLimit({ write: (entry) => this.#append(entry), known, scale: timeScale() })
  }

  /**
   * Null when the receipt could not be written; the runtime's log says so. `counted` when it was only counted (HANDOVER
   * 8.18).
   */
  record(entry: ReceiptEntry): Promise<Receipt | 'counted' | null> {
    return this.#limit.record(entry)
  }

  async receipt(entry: ReceiptEntry): Promise<Receipt | null> {
    const receipt = await this.record(entry)
    return receipt === 'counted' ? null : receipt
  }

  /** Writes the counts so far. */
  close(): Promise<void> {
    return this.#limit.close()
  }

  async #append(entry: ReceiptEntry): Promise<Receipt | null> {
    try {
      return await this.#receipts.append({ ...entry, confined: this.#confined })
    } catch (error) {
      this.#report.error(`no receipt of ${entry.outcome} in slot ${entry.slot}: ${(error as Error).message}`)
      return null
    }
  }
}
