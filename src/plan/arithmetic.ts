/**
 * Numbers that remember how they were computed: a value beside the arithmetic that gave it, as text. The text has only
 * numbers, `+ − × / min max ceil` and brackets, so that anyone, and a test, can compute it again.
 */

export interface Term {
  readonly value: number;
  readonly text: string;
  /** Whether the text must stand in brackets inside a product. */
  readonly isSum: boolean;
}

export type Operand = Term | number;

/** A number of its own. */
export function number(value: number): Term {
  return { value, text: plain(value), isSum: false };
}

export function times(...operands: readonly Operand[]): Term {
  const terms = operands.map(termOf);
  return {
    value: terms.reduce((product, { value }) => product * value, 1),
    text: terms.map(factor).join(' × '),
    isSum: false,
  };
}

export function over(dividend: Operand, divisor: Operand): Term {
  const [above, below] = [termOf(dividend), termOf(divisor)];
  const isPlain = /^[\d.,]+$/.test(below.text);
  return {
    value: above.value / below.value,
    text: `${factor(above)} / ${isPlain ? below.text : `(${below.text})`}`,
    isSum: false,
  };
}

export function plus(...operands: readonly Operand[]): Term {
  const terms = operands.map(termOf);
  return {
    value: terms.reduce((sum, { value }) => sum + value, 0),
    text: terms.map(({ text }) => text).join(' + '),
    isSum: true,
  };
}

export function minus(from: Operand, what: Operand): Term {
  const [whole, part] = [termOf(from), termOf(what)];
  return { value: whole.value - part.value, text: `${whole.text} − ${factor(part)}`, isSum: true };
}

export const ceil = (operand: Operand): Term => call('ceil', Math.ceil, [operand]);
export const max = (...operands: readonly Operand[]): Term => call('max', Math.max, operands);
export const min = (...operands: readonly Operand[]): Term => call('min', Math.min, operands);

function call(name: string, of: (...values: number[]) => number, operands: readonly Operand[]): Term {
  const terms = operands.map(termOf);
  return {
    value: of(...terms.map(({ value }) => value)),
    text: `${name}(${terms.map(({ text }) => text).join('; ')})`,
    isSum: false,
  };
}

const termOf = (operand: Operand): Term => (typeof operand === 'number' ? number(operand) : operand);
const factor = ({ text, isSum }: Term): string => (isSum ? `(${text})` : text);

/** Whole numbers in full, others to six digits. */
function plain(value: number): string {
  const rounded = Number.isInteger(value) ? value : Number(value.toPrecision(6));
  return rounded.toLocaleString('en', { maximumFractionDigits: 12 });
}
