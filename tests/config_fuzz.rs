//! Configs that nobody wrote: whatever stands in config.json, opening a model gives a model or an error, and an error names
//! the file.

mod common;

use std::fs;
use std::path::Path;

use common::{FAMILIES, directory};
use efface::checkpoint::Checkpoint;
use efface::model::Model;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Values that a config might hold somewhere, fitting or not.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u64..70).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop_oneof![Just(1u64 << 31), Just((1 << 31) - 1), Just(1 << 20), Just(u64::MAX)].prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        prop_oneof![
            Just("llama"),
            Just("gpt2"),
            Just("qwen3_moe"),
            Just("silu"),
            Just("relu"),
            Just("bfloat16"),
            Just("llama3"),
            Just("yarn"),
            Just("linear"),
            Just("default"),
            Just("")
        ]
        .prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        let key = prop_oneof![
            Just("rope_type".to_string()),
            Just("type".into()),
            Just("factor".into()),
            Just("rope_theta".into()),
            Just("low_freq_factor".into()),
            Just("high_freq_factor".into()),
            Just("original_max_position_embeddings".into()),
            "[a-z_]{1,8}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..5).prop_map(|pairs| Value::Object(Map::from_iter(pairs))),
        ]
    })
}

/// Keys beyond those of the golden configs.
const MORE: [&str; 12] = [
    "rope_scaling",
    "rope_parameters",
    "sliding_window",
    "layer_types",
    "num_experts",
    "quantization_config",
    "attention_bias",
    "mlp_bias",
    "partial_rotary_factor",
    "scale_attn_by_inverse_layer_idx",
    "use_sliding_window",
    "tie_word_embeddings",
];

fn open(directory: &Path) -> efface::Result<Model> {
    Model::of(&Checkpoint::open(directory)?)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_at_any_key(
        family in 0..FAMILIES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::option::weighted(0.9, value())), 1..4),
    ) {
        let golden = directory(FAMILIES[family]).join("checkpoint");
        let config: Map<String, Value> = serde_json::from_slice(&fs::read(golden.join("config.json")).unwrap()).unwrap();
        let keys: Vec<String> = config.keys().cloned().chain(MORE.map(String::from)).collect();
        let mut edited = config;
        for (place, value) in edits {
            let key = place.get(&keys);
            match value {
                Some(value) => edited.insert(key.clone(), value),
                None => edited.remove(key),
            };
        }
        let root = tempfile::TempDir::new().unwrap();
        fs::copy(golden.join("model.safetensors"), root.path().join("model.safetensors")).unwrap();
        fs::write(root.path().join("config.json"), Value::Object(edited).to_string()).unwrap();
        if let Err(error) = open(root.path()) {
            prop_assert!(error.is_input(), "{error}");
            prop_assert!(error.to_string().starts_with(&root.path().display().to_string()), "{error}");
        }
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..900) {
        let golden = directory("llama").join("checkpoint");
        let root = tempfile::TempDir::new().unwrap();
        fs::copy(golden.join("model.safetensors"), root.path().join("model.safetensors")).unwrap();
        let mut config = fs::read(golden.join("config.json")).unwrap();
        config.truncate(cut);
        for bytes in [bytes, config] {
            fs::write(root.path().join("config.json"), &bytes).unwrap();
            if let Err(error) = open(root.path()) {
                prop_assert!(error.is_input() && error.to_string().contains("config.json"), "{error}");
            }
        }
    }
}
