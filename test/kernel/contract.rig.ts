/** Runs the contract suite of all backends with the lines of a real kernel. */
import '../drivers/owner/contract.test.ts'
