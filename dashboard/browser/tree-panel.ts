/**
 * The radix tree as an icicle that can be walked with the keyboard, as the tree pattern of ARIA has it. What stands below
 * a node is fetched when it is opened. One node is current: it has the focus, and its text is shown.
 */
import { type Box, isWithin, layOut, type Nodes, type TreeNode } from '../icicle.js';
import { bytes, count } from '../numbers.js';
import { NODES_MAX } from '../pace.js';
import type { Api } from './api.js';
import { byId, setText, svg } from './elements.js';

const ROW = 26;
const CHARACTER = 6.6;

function labelOf({ start, tokens, chunks, chunks_host: host, chunks_disk: disk, text }: TreeNode): string {
  const places = `${count(host)} in host memory, ${count(disk)} on disk`;
  return `${text.slice(0, 80)}; ${count(tokens)} tokens from ${count(start)}, ${count(chunks)} chunks, ${places}`;
}

/** What of its chunks is in host memory, then what is on disk only. */
function fills(
  { node, x, width }: Box,
  { y, all }: { readonly y: number; readonly all: number },
): SVGElement[] {
  const host = node.chunks_host / node.chunks;
  const whole = [
    { fill: 'host', from: 0, to: host },
    { fill: 'disk', from: host, to: 1 },
  ];
  const parts = node.chunks === 0 ? [{ fill: 'none', from: 0, to: 1 }] : whole;
  return parts
    .filter(({ from, to }) => to > from)
    .map(({ fill, from, to }) => {
      const box = { x: all * (x + width * from), width: all * width * (to - from), y, height: ROW };
      return svg('rect', { ...box, class: `fill-${fill}` });
    });
}

/** `all` is the width of the drawing, in pixels. */
function draw(
  box: Box,
  { isCurrent, all }: { readonly isCurrent: boolean; readonly all: number },
): SVGGElement {
  const { node, level, position, siblings, isOpen, x, width } = box;
  const y = (level - 1) * ROW;
  const group = svg('g', {
    role: 'treeitem',
    tabindex: isCurrent ? 0 : -1,
    'data-place': node.place,
    'aria-level': level,
    'aria-posinset': position,
    'aria-setsize': siblings,
    'aria-selected': String(isCurrent),
    'aria-label': labelOf(node),
    ...(node.children > 0 && { 'aria-expanded': String(isOpen) }),
  });
  const characters = Math.floor((all * width - 10) / CHARACTER);
  const mark = node.children === 0 ? '' : isOpen ? '▾ ' : '▸ ';
  const text = `${mark}${node.text.replaceAll(/\s+/g, ' ')}`;
  const frame = { class: 'frame', x: all * x, y, width: all * width, height: ROW };
  group.append(...fills(box, { y, all }));
  if (characters > 2) group.append(svg('text', { x: all * x + 5, y: y + 17 }, text.slice(0, characters)));
  group.append(svg('rect', frame));
  return group;
}

export class TreePanel {
  readonly #api: Api;
  readonly #tree = document.querySelector<SVGSVGElement>('#tree')!;
  readonly #note = byId('tree-note', HTMLElement);
  #open = new Map<string, Nodes>();
  #boxes: readonly Box[] = [];
  #current = '';
  #loads = 0;
  #widened = '';

  constructor(api: Api) {
    this.#api = api;
    byId('tree-refresh', HTMLButtonElement).addEventListener('click', () => void this.load());
    byId('tree-whole', HTMLButtonElement).addEventListener('click', () => this.#widen(''));
    this.#tree.addEventListener('keydown', (event) => this.#onKey(event));
    this.#tree.addEventListener('click', (event) => {
      const place = this.#placeOf(event.target);
      if (place !== undefined) void this.#toggle(place);
    });
    this.#tree.addEventListener('dblclick', (event) => this.#widen(this.#placeOf(event.target) ?? ''));
    this.#tree.addEventListener('focusin', (event) => {
      const place = this.#placeOf(event.target);
      if (place !== undefined && place !== this.#current) this.#select(place);
    });
  }

  /** Whether a new drawing would take the focus from somebody. */
  get isInUse(): boolean {
    return this.#tree.contains(document.activeElement);
  }

  /** Fetches the roots, and what was open if it is still there. A later call wins. */
  async load(): Promise<void> {
    const load = ++this.#loads;
    const open = new Map<string, Nodes>();
    const places = ['', ...[...this.#open.keys()].filter((place) => place !== '')];
    for (const place of places) {
      const isThere = place === '' || layOut(open).some(({ node }) => node.place === place);
      const nodes = isThere ? await this.#fetch(place) : undefined;
      if (nodes !== undefined) open.set(place, nodes);
    }
    if (load !== this.#loads) return;
    this.#open = open;
    this.#show();
  }

  #find(place: string): Box | undefined {
    this.#boxes = layOut(this.#open, this.#widened);
    return this.#boxes.find(({ node }) => node.place === place);
  }

  /** What stands below a place; what went wrong is noted. */
  async #fetch(place: string): Promise<Nodes | undefined> {
    try {
      const query = place === '' ? '' : `&place=${place}`;
      const nodes = await this.#api.json<Nodes>(`v1/cache/tree?limit=${NODES_MAX}${query}`);
      setText(this.#note, '');
      return nodes;
    } catch (error) {
      setText(this.#note, error instanceof Error ? error.message : String(error));
      return undefined;
    }
  }

  #show(): void {
    if (this.#find(this.#widened) === undefined) this.#widened = '';
    if (this.#find(this.#current) === undefined) this.#current = this.#boxes[0]?.node.place ?? '';
    const levels = Math.max(1, ...this.#boxes.map(({ level }) => level));
    const hadFocus = this.isInUse;
    const all = Math.max(100, this.#tree.clientWidth);
    this.#tree.setAttribute('viewBox', `0 0 ${all} ${levels * ROW}`);
    const isCurrent = ({ node }: Box) => node.place === this.#current;
    this.#tree.replaceChildren(...this.#boxes.map((box) => draw(box, { isCurrent: isCurrent(box), all })));
    if (hadFocus) this.#element(this.#current)?.focus();
    this.#describe();
  }

  #describe(): void {
    const node = this.#find(this.#current)?.node;
    const all = this.#open.get('')?.total ?? 0;
    const title =
      node === undefined
        ? 'Nothing is cached below the device for this API key.'
        : `${count(node.tokens)} tokens from position ${count(node.start)}: ${count(node.chunks)} chunks, ${bytes(node.bytes)}, ${count(node.chunks_host)} in host memory, ${count(node.chunks_disk)} on disk; ${count(node.children)} branches with ${count(node.chunks_below)} chunks below. It begins:`;
    setText(byId('node-title', HTMLElement), title);
    setText(byId('node-text', HTMLElement), node?.text ?? '');
    if (all > NODES_MAX)
      setText(this.#note, `The ${NODES_MAX} largest of ${count(all)} beginnings are shown.`);
  }

  #element(place: string): SVGGElement | null {
    return this.#tree.querySelector(`[data-place="${place}"]`);
  }

  #placeOf(target: EventTarget | null): string | undefined {
    return target instanceof Element
      ? (target.closest('[data-place]')?.getAttribute('data-place') ?? undefined)
      : undefined;
  }

  #select(place: string): void {
    for (const [each, isCurrent] of [
      [this.#current, false],
      [place, true],
    ] as const) {
      const element = this.#element(each);
      element?.setAttribute('tabindex', isCurrent ? '0' : '-1');
      element?.setAttribute('aria-selected', String(isCurrent));
    }
    this.#current = place;
    this.#describe();
  }

  #focus(place: string | undefined): void {
    if (place !== undefined) this.#element(place)?.focus();
  }

  #widen(place: string): void {
    this.#widened = place;
    this.#show();
  }

  async #toggle(place: string): Promise<void> {
    const box = this.#find(place);
    if (box === undefined || box.node.children === 0) return;
    if (box.isOpen) this.#close(place);
    else {
      const nodes = await this.#fetch(place);
      if (nodes !== undefined) this.#open.set(place, nodes);
    }
    this.#show();
  }

  #close(place: string): void {
    for (const each of this.#open.keys()) if (each !== '' && isWithin(each, place)) this.#open.delete(each);
  }

  #onKey(event: KeyboardEvent): void {
    const move = this.#moves()[event.key];
    if (move === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move();
  }

  /** What the keys do at the current node. */
  #moves(): Readonly<Record<string, () => void>> {
    const at = this.#boxes.findIndex(({ node }) => node.place === this.#current);
    const box = this.#boxes[at];
    if (box === undefined) return {};
    const { node, parent, isOpen } = box;
    const placeAt = (index: number) => this.#boxes[index]?.node.place;
    return {
      ArrowDown: () => this.#focus(placeAt(at + 1)),
      ArrowUp: () => this.#focus(placeAt(at - 1)),
      Home: () => this.#focus(placeAt(0)),
      End: () => this.#focus(placeAt(this.#boxes.length - 1)),
      ArrowRight: () => (isOpen ? this.#focus(placeAt(at + 1)) : void this.#toggle(node.place)),
      ArrowLeft: () => (isOpen ? void this.#toggle(node.place) : this.#focus(parent)),
      ' ': () => void this.#toggle(node.place),
      Enter: () => this.#widen(node.place),
      Escape: () => this.#widen(''),
    };
  }
}
