// Ask a served tagger for the best tags over gRPC, from Node.
//
//     npm install --prefix examples/node
//     node examples/node/tag.mjs song.wav localhost:8500
//
// Takes a WAV file of 16 bits, of any rate and channels. The two .proto files beside this one are all of TensorFlow that
// it needs.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const [path, address = "localhost:8500"] = process.argv.slice(2);
if (!path) {
  console.error("expected a WAV file. Received: none");
  process.exit(2);
}

const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const definition = protoLoader.loadSync(file("serving.proto"), { includeDirs: [file(".")], keepCase: true });
const { PredictionService } = grpc.loadPackageDefinition(definition).tensorflow.serving;
// A tf.Example is sent as bytes inside a tensor, so it is encoded here.
const Example = new protobuf.Root().loadSync(file("tensorflow.proto"), { keepCase: true }).lookupType("tensorflow.Example");

const audio = await readFile(path);
const feature = { audio_bytes: { bytes_list: { value: [audio] } } };
const example = Example.encode(Example.fromObject({ features: { feature } })).finish();
// 4 MiB, gRPC's default limit, is less than the attention of half a minute.
const client = new PredictionService(address, grpc.credentials.createInsecure(), {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
});
const request = {
  model_spec: { name: "keras_tagger", signature_name: "classify" },
  inputs: {
    inputs: { dtype: "DT_STRING", tensor_shape: { dim: [{ size: 1 }] }, string_val: [example] },
  },
};

client.Predict(request, { deadline: Date.now() + 30_000 }, (error, reply) => {
  if (error) {
    console.error(`${error.code}: ${error.details}`);
    process.exitCode = 1;
  } else {
    const { classes, scores } = reply.outputs;
    classes.string_val.slice(0, 5).forEach((name, index) => {
      console.log(`${name.toString()} ${scores.float_val[index].toFixed(3)}`);
    });
  }
  client.close();
});
