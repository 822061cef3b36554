import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isWithin, layOut, type TreeNode } from '../../dashboard/icicle.js';

function node(place: string, chunks: number, below: number): TreeNode {
  const host = { chunks_host: chunks, chunks_disk: 0, bytes: 0 };
  return { place, start: 0, tokens: 0, chunks, ...host, children: 0, chunks_below: below, text: '' };
}

const ROOTS = { data: [node('1', 3, 6), node('2', 3, 0)], total: 2 };
const BELOW = { data: [node('1.5', 4, 0), node('1.15', 2, 0)], total: 9 };

const shapes = (open: ReadonlyMap<string, typeof ROOTS>, widened?: string) =>
  layOut(open, widened).map(({ node: { place }, level, x, width }) => [place, level, x, width]);

test('nodes are as wide as their share of the chunks, children below the part of their parent that is below it', () => {
  assert.deepEqual(shapes(new Map([['', ROOTS]])), [
    ['1', 1, 0, 0.75],
    ['2', 1, 0.75, 0.25],
  ]);
  const open = new Map([
    ['', ROOTS],
    ['1', BELOW],
  ]);
  assert.deepEqual(
    shapes(open).map(([place]) => place),
    ['1', '1.5', '1.15', '2'],
  );
  const [, first, second] = layOut(open);
  assert.deepEqual([first!.x, first!.width], [0, 0.5 * (4 / 6)]);
  assert(Math.abs(second!.x + second!.width - 0.5) < 1e-12);
});

test('a widened node stands alone below those above it', () => {
  const open = new Map([
    ['', ROOTS],
    ['1', BELOW],
  ]);
  assert.deepEqual(shapes(open, '1.15'), [
    ['1', 1, 0, 1],
    ['1.15', 2, 0, 1],
  ]);
  const [root, child] = layOut(open, '1.15');
  assert.deepEqual([root!.isOpen, root!.position, root!.siblings], [true, 1, 2]);
  assert.deepEqual([child!.isOpen, child!.position, child!.siblings], [false, 2, 9]);
});

test('a place is within another by whole numbers', () => {
  assert(isWithin('1.5.7', '1.5') && isWithin('1.5', '1.5') && isWithin('1', ''));
  assert(!isWithin('1.55', '1.5') && !isWithin('1', '1.5'));
});
