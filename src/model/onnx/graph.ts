/**
 * Builds one ONNX graph as a protobuf: nodes by operator name, small constants inline, weights by reference to an
 * external file. Knows operators of the default domain and `com.microsoft`; knows no architecture.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProto_DataType,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from './onnx_pb.js';

const OPSET = 17;
const IR_VERSION = 10n;
const MICROSOFT = 'com.microsoft';

/** Element types of graph inputs, outputs and weights. */
export const ELEMENT = {
  float32: TensorProto_DataType.FLOAT,
  float16: TensorProto_DataType.FLOAT16,
  uint8: TensorProto_DataType.UINT8,
  int32: TensorProto_DataType.INT32,
  int64: TensorProto_DataType.INT64,
  bool: TensorProto_DataType.BOOL,
} as const;
export type Element = keyof typeof ELEMENT;

/** A tensor in the external weights file. */
export interface ExternalTensor {
  readonly element: Element;
  readonly dims: readonly number[];
  /** Bytes from the start of the file, and how many. */
  readonly offset: number;
  readonly length: number;
}

/** A float is a number with `f`; a bare number is an integer attribute. */
export type Attribute = number | { readonly f: number } | readonly number[] | { readonly graph: GraphProto };

/** Symbolic dimensions are names. */
type Dims = readonly (number | string)[];

export class GraphBuilder {
  readonly #nodes: NodeProto[] = [];
  readonly #initializers = new Map<string, TensorProto>();
  readonly #inputs: ValueInfoProto[] = [];
  readonly #outputs: ValueInfoProto[] = [];
  readonly #prefix: string;
  #names = 0;

  /** @param prefix of the names it makes: a branch must not shadow what is around it. */
  constructor(prefix = '') {
    this.#prefix = prefix;
  }

  input(name: string, element: Element, dims: Dims): string {
    this.#inputs.push(valueInfo(name, element, dims));
    return name;
  }

  /** Declares that the value `name`, made by a node, is an output. */
  output(name: string, element: Element, dims: Dims): void {
    this.#outputs.push(valueInfo(name, element, dims));
  }

  /** A node of the default domain with one output, whose name is returned; `''` is an absent input. */
  op(
    type: string,
    inputs: readonly string[],
    attributes: Record<string, Attribute> = {},
    name?: string,
  ): string {
    return this.#node('', type, inputs, [name ?? this.#fresh(type)], attributes)[0]!;
  }

  /** As `op`, in the domain `com.microsoft`. */
  msOp(type: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}): string {
    return this.#node(MICROSOFT, type, inputs, [this.#fresh(type)], attributes)[0]!;
  }

  /** As `op`, with several outputs; where `wanted` is false the output is left out. */
  ops(
    domain: '' | typeof MICROSOFT,
    type: string,
    inputs: readonly string[],
    wanted: readonly boolean[],
    attributes: Record<string, Attribute> = {},
  ): string[] {
    const outputs = wanted.map((isWanted) => (isWanted ? this.#fresh(type) : ''));
    return this.#node(domain, type, inputs, outputs, attributes);
  }

  /**
   * Values that one of two branches makes, only the one that is taken. Both may read the values of this graph.
   *
   * @param condition bool scalar
   * @param branches nodes added to the builder they are given; the names of the results are returned
   */
  either(
    condition: string,
    branches: Readonly<Record<'yes' | 'no', (branch: GraphBuilder) => readonly string[]>>,
    results: readonly { readonly element: Element; readonly dims: Dims }[],
  ): string[] {
    const names = results.map(() => this.#fresh('If'));
    const graphOf = (which: 'yes' | 'no') => {
      const branch = new GraphBuilder(`${names[0]!}_${which}_`);
      for (const [i, made] of branches[which](branch).entries()) {
        branch.output(made, results[i]!.element, results[i]!.dims);
      }
      return { graph: branch.#toGraph(`${names[0]!}_${which}`) };
    };
    const attributes = { then_branch: graphOf('yes'), else_branch: graphOf('no') };
    return this.#node('', 'If', [condition], names, attributes);
  }

  /** A constant int64 vector, shared by equal ones. */
  int64(...values: readonly number[]): string {
    const name = `i64:${values.join(',')}`;
    if (!this.#initializers.has(name)) {
      this.#initializers.set(
        name,
        create(TensorProtoSchema, {
          name,
          dataType: ELEMENT.int64,
          dims: [BigInt(values.length)],
          int64Data: values.map(BigInt),
        }),
      );
    }
    return name;
  }

  /** A constant float32 scalar, shared by equal ones. */
  float32(value: number): string {
    const name = `f32:${value}`;
    if (!this.#initializers.has(name)) {
      this.#initializers.set(
        name,
        create(TensorProtoSchema, { name, dataType: ELEMENT.float32, dims: [], floatData: [value] }),
      );
    }
    return name;
  }

  /** A weight of the external file `location`, which lies beside the graph. */
  weight(name: string, tensor: ExternalTensor, location: string): string {
    if (!this.#initializers.has(name)) {
      const entries = { location, offset: String(tensor.offset), length: String(tensor.length) };
      this.#initializers.set(
        name,
        create(TensorProtoSchema, {
          name,
          dataType: ELEMENT[tensor.element],
          dims: tensor.dims.map(BigInt),
          dataLocation: TensorProto_DataLocation.EXTERNAL,
          externalData: Object.entries(entries).map(([key, value]) =>
            create(StringStringEntryProtoSchema, { key, value }),
          ),
        }),
      );
    }
    return name;
  }

  /** The graph's bytes, as a `.onnx` file holds them. */
  toBytes(name: string): Uint8Array {
    const model = create(ModelProtoSchema, {
      irVersion: IR_VERSION,
      producerName: 'radixkv',
      opsetImport: [opset('', OPSET), opset(MICROSOFT, 1)],
      graph: this.#toGraph(name),
    });
    return toBinary(ModelProtoSchema, model);
  }

  #toGraph(name: string): GraphProto {
    return create(GraphProtoSchema, {
      name,
      node: this.#nodes,
      initializer: [...this.#initializers.values()],
      input: this.#inputs,
      output: this.#outputs,
    });
  }

  #fresh(type: string): string {
    return `${this.#prefix}${type}_${this.#names++}`;
  }

  #node(
    domain: string,
    opType: string,
    input: readonly string[],
    output: string[],
    attributes: Record<string, Attribute>,
  ): string[] {
    const attribute = Object.entries(attributes).map(([key, value]) => attributeProto(key, value));
    this.#nodes.push(create(NodeProtoSchema, { domain, opType, input: [...input], output, attribute }));
    return output;
  }
}

function opset(domain: string, version: number) {
  return create(OperatorSetIdProtoSchema, { domain, version: BigInt(version) });
}

function attributeProto(name: string, value: Attribute) {
  if (typeof value === 'number') {
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INT, i: BigInt(value) });
  }
  if ('f' in value) {
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.FLOAT, f: value.f });
  }
  if ('graph' in value) {
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.GRAPH, g: value.graph });
  }
  return create(AttributeProtoSchema, {
    name,
    type: AttributeProto_AttributeType.INTS,
    ints: value.map(BigInt),
  });
}

function valueInfo(name: string, element: Element, dims: Dims): ValueInfoProto {
  const dim = dims.map((size) =>
    create(TensorShapeProto_DimensionSchema, {
      value:
        typeof size === 'number'
          ? { case: 'dimValue', value: BigInt(size) }
          : { case: 'dimParam', value: size },
    }),
  );
  const tensorType = create(TypeProto_TensorSchema, {
    elemType: ELEMENT[element],
    shape: create(TensorShapeProtoSchema, { dim }),
  });
  return create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensorType } }),
  });
}
