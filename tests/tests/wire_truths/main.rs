//! The metrics of requests over real sockets. Each test is a case that a real system handled wrongly.
//!
//! These cases concern protocols. The table has the systems that handled them wrongly, and the tests: for chat completions, and for each other
//! protocol that streams.
//!
//! | case | got wrong by | chat completions | other protocols |
//! | --- | --- | --- | --- |
//! | a client leaves after some tokens | vLLM [#31503] | `endings::a_client_that_hangs_up_mid_stream_is_cancelled_and_its_tokens_are_discarded` | `protocols::a_client_that_leaves_is_cancelled_before_the_end_and_served_after_it` |
//! | an error inside a 200 | hawk #1148 | `endings::an_error_event_after_200_is_a_stream_error_and_not_a_success` | `protocols::an_error_inside_the_stream_is_not_a_success` |
//! | the end of a stream without its last event | | `endings::a_stream_that_ends_without_a_terminal_event_is_truncated` | `protocols::a_stream_that_is_cut_is_truncated_and_its_tokens_are_those_that_were_seen`, `protocols::a_stream_that_is_cut_at_any_byte_before_its_end_is_truncated` |
//! | a role, an empty text, a comment or a ping is not a token | aisix #869 | `first_token::roles_empty_texts_comments_and_pings_are_not_the_first_token` | `protocols::first_token::events_without_a_token_are_not_the_first_token` |
//! | reasoning before the answer | | `first_token::reasoning_is_a_first_token_but_not_an_answer_whatever_the_key` | `protocols::first_token::reasoning_is_a_first_token_but_not_an_answer` |
//! | a turn that only calls a tool | mecatl #155 | `first_token::a_turn_that_only_calls_a_tool_has_both` | `protocols::first_token::a_turn_that_only_calls_a_tool_has_a_first_token` |
//! | several tokens in one event | vLLM [#47382] | `tokens::five_tokens_in_one_event_are_five_samples_that_add_up_to_the_gap` | `protocols::tokens::each_token_that_the_engine_counted_in_an_event_is_a_sample` (llama.cpp's own: the others do not count in between) |
//! | an answer of one token | | `tokens::an_answer_of_one_token_has_no_time_per_token` | `protocols::tokens::an_answer_of_one_token_has_no_time_per_token` |
//! | an answer in one piece | heron #4 | `first_token::an_answer_in_one_piece_has_no_time_to_its_first_token` | `protocols::a_document_has_the_counts_of_the_stream` |
//! | cuts at any byte, line ends, data over several lines, compression | | `framing::an_event_split_at_every_byte_gives_the_same_numbers`, `framing::line_ends_of_any_kind_give_the_same_numbers`, `framing::data_over_several_lines_is_one_event`, `framing::a_compressed_body_is_skipped_counted_and_never_truncated` | `protocols::a_stream_is_counted_the_same_however_its_bytes_are_framed`, `protocols::framing::line_ends_of_any_kind_give_the_same_numbers`, `protocols::framing::data_over_several_lines_is_one_event`, `protocols::framing::a_compressed_body_is_skipped_and_counted` |
//! | no usage, and usage in odd places | stella #176, Envoy AI Gateway #2290 | `tokens::a_stream_without_usage_is_estimated_and_nothing_is_zero`, `tokens::a_document_without_usage_is_missing_and_nothing_is_zero`, `tokens::usage_is_read_in_every_place_where_servers_put_it` | `protocols::tokens::a_stream_without_usage_is_estimated_and_a_document_missing_and_nothing_is_zero`, `protocols::a_stream_is_counted_the_same_however_its_bytes_are_framed` (Anthropic's `message_delta`) |
//! | what cut an output: the request's limit, the context, or Ollama's prompt at `num_ctx / 2 + 2` | | `endings::an_answer_cut_at_the_token_limit_counts_as_length`, and `output_quality::the_cause_of_a_truncation_is_reported` | `protocols::a_terminal_event_is_enough_if_a_server_gives_no_reason`, and `output_quality::a_prompt_that_ollama_cut_without_reporting_it_is_suspected` |
//! | everything passes unchanged | | `passage::large_bodies_of_any_bytes_pass_unchanged_in_both_directions` | `protocols::a_stream_is_counted_the_same_however_its_bytes_are_framed`, `protocols::a_document_has_the_counts_of_the_stream` |
//!
//! [#31503]: https://github.com/vllm-project/vllm/issues/31503
//! [#47382]: https://github.com/vllm-project/vllm/issues/47382

mod cardinality;
mod endings;
mod first_token;
mod framing;
mod passage;
mod protocols;
mod settings;
mod sides;
mod tokens;

use std::path::Path;

use llm_metrics_tests::{assert_ended, assert_error};

/// Checks that the tests in the table above exist.
#[test]
fn every_case_has_its_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let rows = include_str!("main.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter_map(|name| name.rsplit_once("::"));
    let mut tests = 0;
    for (module, test) in names {
        let file = match module {
            "output_quality" => "output_quality.rs".to_owned(),
            "protocols" => "wire_truths/protocols/mod.rs".to_owned(),
            _ => format!("wire_truths/{}.rs", module.replace("::", "/")),
        };
        let source = std::fs::read_to_string(folder.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn {test}(")), "{file} has no {test}");
        tests += 1;
    }
    assert!(tests > 30, "only {tests} tests are named");
}
